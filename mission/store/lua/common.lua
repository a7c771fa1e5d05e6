-- Stands in front of the functions, after the names of the keys (`mission.store.names.Key`).

-- The server's clock as TIME has it, and in milliseconds. Each function begins with a look at it.
local clock, now
local function read_clock()
  clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- By what time missions expire: Redis' clock, unless it is a minute or more ahead of the caller's. No clock that jumps ends one alone.
local function agreed(callers)
  callers = tonumber(callers)
  return now - callers < 60000 and now or callers
end

local function entry(id) return ENTRY .. id end

-- The most bytes of a submitter's name, of an encrypted URL, whose text has 8,192 characters at most, and of a message for 256 missions.
local MOST_NAME, MOST_URL, MOST_MESSAGE = 64, 16384, 16384
-- The most missions that are claimed in one call.
local MOST_CLAIMS = 1024

-- Those that wait for a host lie together; the others, '', have a group of their own.
local function group_of(host) return host == '' and DUE or DUE_OF .. host end

-- Each priority, and the index of its missions that wait for a worker. An entry without a priority is of a normal one.
local PRIORITIES = {'high', 'normal', 'low'}
local INDEX_OF = {high = QUEUED_HIGH, normal = QUEUED, low = QUEUED_LOW}
local function line_of(priority, submitter) return LINE .. priority .. ':' .. submitter end

-- Take an id off all indexes but its host's; whether it was on one.
local function off_indexes(id)
  local count = 0
  for _, index in ipairs({QUEUED, QUEUED_HIGH, QUEUED_LOW, LEASES, DUE, OPEN, EXPIRY, DEAD}) do count = count + redis.call('ZREM', index, id) end
  return count > 0
end

-- What is no mission is put aside, so that it is in nobody's way: off the indexes, on a list that an operator sees.
local function put_aside(id, what)
  off_indexes(id)
  if redis.call('HLEN', DAMAGED) < 10000 then redis.call('HSET', DAMAGED, string.sub(id, 1, 64), what) end
end

-- Fields of a mission's entry; nil where a key of another type stands in its place, which is put aside.
local function read(id, ...)
  local found = redis.pcall('HMGET', entry(id), ...)
  if not found.err then return found end
  if not string.find(tostring(found.err), 'WRONGTYPE', 1, true) then error(tostring(found.err)) end
  put_aside(id, 'type')
  return nil
end

-- The whole number that a field holds, of so many digits at most (15; a token, a time in µs, has 16); nil where it holds none.
local function whole(text, digits)
  return text and #text <= (digits or 15) and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- Whether this may be the id of a mission; what may not is put aside.
local function is_id(id)
  if #id == 36 and string.match(id, '^[%x-]+$') then return true end
  put_aside(id, 'id')
  return false
end

-- The state of a mission from an index. Nil where it has none any more (forgotten, evicted by hand): then it is in no index either.
local function state_of(id)
  if not is_id(id) then return nil end
  local found = read(id, 'state', 'attempts', 'crashes', 'missed_at')
  if not found then return nil end
  if not found[1] then
    off_indexes(id)
    return nil
  end
  for i, name in ipairs({'attempts', 'crashes', 'missed_at'}) do
    if found[i + 1] and not whole(found[i + 1]) then
      put_aside(id, name)
      return nil
    end
  end
  return found[1]
end

local function remember(id, reason)
  local history = redis.call('HGET', entry(id), 'history')
  history = (history and history ~= '') and history .. ' ' or ''
  redis.call('HSET', entry(id), 'history', history .. now .. ':' .. reason)
end

-- Put missions at the end of their submitter's line, and the submitter, if it has no missions there yet, behind those whose turn comes
-- before. Only the index says who waits: what is in no line, because this failed, is claimed by its age.
local function line_up(priority, submitter, ids)
  if #submitter > MOST_NAME then return end
  redis.pcall('RPUSH', line_of(priority, submitter), unpack(ids))
  local turn = redis.pcall('HGET', TURNS, 'turn')
  redis.pcall('ZADD', RING .. priority, 'NX', (type(turn) == 'string' and whole(turn) or 0) + 1, submitter)
end

-- Put a mission (back) among those that wait for a worker. Returns nothing: publishing is the caller's.
local function enqueue(id)
  local seq = redis.call('INCR', SEQ)
  local found = redis.call('HMGET', entry(id), 'submitter', 'priority')
  local priority = INDEX_OF[found[2]] and found[2] or 'normal'
  redis.call('HSET', entry(id), 'state', 'queued')
  redis.call('ZADD', INDEX_OF[priority], seq, id)
  line_up(priority, found[1] or '', {id})
end

local function enqueue_again(id)
  redis.call('HSET', entry(id), 'again', '1')
  redis.call('HDEL', entry(id), 'missed_at', 'host', 'put_off', 'due_at')
  enqueue(id)
end

local function detach(id)
  -- It is in a worker's hands, or waits for one: then it waits for no host.
  for _, index in ipairs({LEASES, QUEUED, QUEUED_HIGH, QUEUED_LOW}) do
    if redis.call('ZREM', index, id) == 1 then return end
  end
  local found = read(id, 'host')
  local host = found and found[1]
  redis.pcall('ZREM', group_of(host or ''), id) -- whatever lies there: it is not in it
  if host then redis.call('HDEL', entry(id), 'host', 'put_off', 'due_at') end
end

-- A host's breaker: failures in a row, whose they were ('*': of several submitters), and times in ms, 0 where it never was.
-- For so long after somebody reached the host, the failures of one submitter alone do not pause it for the others.
local TRUSTED_FOR = 30000
local BREAKER = {'failures', 'paused_until', 'failed_at', 'reached_at', 'probed_at'}

-- The breaker that a text holds; nil where it holds none.
local function breaker_in(text)
  local a, b, c, d, e, submitter = string.match(text or '', '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+)$')
  if not a then return nil end
  local breaker = {submitter = submitter}
  for i, value in ipairs({a, b, c, d, e}) do
    breaker[BREAKER[i]] = whole(value)
    if not breaker[BREAKER[i]] then return nil end
  end
  -- What is still to come did not happen: the clock ran back. It must not make a pause longer.
  if breaker.failed_at > now then
    breaker.failed_at, breaker.paused_until, breaker.ran_back = now, math.min(breaker.paused_until, now), true
  end
  if breaker.reached_at > now then breaker.reached_at = 0 end
  if breaker.probed_at > now then breaker.probed_at = 0 end
  return breaker
end

-- The breaker of a host; nil where there is none, whatever stands in its place.
local function breaker_of(host)
  local text = redis.pcall('HGET', HOSTS, host)
  return type(text) == 'string' and breaker_in(text) or nil
end

local function keep_breaker(host, breaker)
  local text = {}
  for i, name in ipairs(BREAKER) do text[i] = string.format('%.0f', breaker[name]) end
  redis.call('HSET', HOSTS, host, table.concat(text, ' ') .. ' ' .. breaker.submitter)
end

-- Try it again after `time`; when the host that it waits for is not paused then, nor wants a probe first.
local function retry_at(id, time, host)
  host = host or ''
  local breaker = host ~= '' and breaker_of(host)
  -- A paused host's turn is known; for another one it comes as early as its first mission is due. First of all: where this fails, the
  -- mission is still in the hands that it was in.
  redis.call('ZADD', DUE_HOSTS, breaker and breaker.paused_until > 0 and 'NX' or 'LT', time, host)
  detach(id)
  redis.call('HSET', entry(id), 'state', 'retrying', 'host', host, 'due_at', math.max(time, breaker and breaker.paused_until or 0))
  if type(redis.pcall('ZADD', group_of(host), time, id)) == 'table' then
    redis.call('DEL', group_of(host)) -- no sorted set: no mission is in it
    redis.call('ZADD', group_of(host), time, id)
  end
end

-- The states that a mission stays in.
local ENDED_IN = {succeeded = true, failed = true, dead = true, cancelled = true}

-- Say so to who follows the outcomes. Whatever stands in the place of the stream, or who may not write to it, must not end this half done.
local function tell(id, state, reason, secrets)
  local found = redis.pcall('HMGET', entry(id), 'submitter', 'submitted_at')
  local function told(value) return value and #value <= MOST_NAME and value or '' end -- a longer one no release wrote
  redis.pcall('XADD', OUTCOMES, 'MAXLEN', '~', MOST_OUTCOMES, '*', 'id', id, 'submitter', told(found[1]), 'state', state,
    'reason', reason, 'secrets', secrets, 'submitted_at', told(found[2]), 'finished_at', now)
end

-- The one way into one of them.
local function finish(id, state, reason, secrets, ttl)
  detach(id)
  redis.call('ZREM', OPEN, id)
  redis.call('ZREM', EXPIRY, id)
  redis.call('HSET', entry(id), 'state', state, 'reason', reason, 'secrets', secrets, 'finished_at', now)
  if state == 'dead' then
    remember(id, reason)
    redis.call('ZADD', DEAD, now, id)
  else
    -- Nobody fetches it again: what need not be kept is not kept.
    redis.call('HDEL', entry(id), 'url', 'expires_at')
  end
  redis.pcall('HINCRBY', FINISHED, state, 1) -- a count that cannot be kept must not end this half done
  redis.call('EXPIRE', entry(id), ttl)
  tell(id, state, reason, secrets)
  redis.pcall('PUBLISH', ENDED .. id, state) -- to who waits for it; a login that may not must not end this half done
end

-- How many bytes of sealed results a submitter has stored, when in ms the next of them are gone, and how many go at this moment. They
-- stand in a hash: bytes by the moment when the last of them are gone; `bytes`, their sum, as long as `until` has not come. After that
-- they are counted anew: then a fourth answer holds the fields that go; it is 'all' where this is no such hash.
local function stored(submitter, moment)
  local function ahead(text)
    local number = whole(text)
    return number and number > now and number - now < 2 ^ 40 and number
  end
  local found = redis.pcall('HMGET', STORED .. submitter, 'bytes', 'until', moment)
  if found.err then return 0, math.huge, 0, 'all' end
  local bytes, first, at_moment, over = whole(found[1]), ahead(found[2]), whole(found[3]) or 0, nil
  if not (bytes and first) then
    bytes, first, over = 0, math.huge, {}
    found = redis.call('HGETALL', STORED .. submitter)
    if #found > 1000 then return 0, first, 0, 'all' end -- dozens would be many
    for i = 1, #found, 2 do
      local when, size = ahead(found[i]), whole(found[i + 1])
      if when and size then
        bytes, first = bytes + size, math.min(first, when)
      else
        over[#over + 1] = found[i]
      end
    end
  end
  return bytes, first, at_moment, over
end

-- A claim under way: what it gives out, and what it finds beside. Nil where ARGV does not begin with these numbers:
--   oldest and newest schema to read, count, lease in ms, ledger TTL in s, 1 if a suspect may be claimed, how many lost leases make one (0:
--   there are none), delay of the others in ms, the caller's clock in ms.
-- A mission that outlived so many leases may be what kills its workers: a suspect. One of them is claimed at most, and only where the
-- caller has room for it; the others come back after the delay.
-- Fencing tokens come from one counter for all missions, so many as are claimed at most at once: none comes back, not even under an id that
-- was forgotten and admitted anew. It keeps up with the clock in µs, so that it does not fall where a failover or a crash lost the newest of it.
local function begin_claim(ARGV)
  for i = 1, 9 do
    if not whole(ARGV[i]) then return nil end
  end
  return {
    reads_from = tonumber(ARGV[1]), reads_to = tonumber(ARGV[2]), count = math.min(tonumber(ARGV[3]), MOST_CLAIMS), lease = tonumber(ARGV[4]), ttl = ARGV[5],
    suspect_allowed = ARGV[6] == '1', suspect_after = tonumber(ARGV[7]), suspect_delay = tonumber(ARGV[8]), time = agreed(ARGV[9]),
    claims = {}, expired = {},
  }
end

-- The field that no release could have left so. The large ones are not read to find that out.
local function damaged(id, submitted_at, expires_at, attempts)
  for name, most in pairs({submitter = MOST_NAME, url = MOST_URL}) do
    local size = redis.call('HSTRLEN', entry(id), name)
    if size == 0 or size > most then return name end
  end
  if not whole(submitted_at) then return 'submitted_at' end
  if not whole(expires_at) then return 'expires_at' end
  return attempts and not whole(attempts) and 'attempts' or nil
end

-- Claim a mission of a priority: 'claimed'. Or say why not: it is 'elsewhere' (it does not wait), its schema is 'unreadable', the claim is
-- 'full', or nothing where that was dealt with here. A claim is {id, token, attempt, submitter, url, submitted_at, expires_at, lost leases}.
local function claim_one(claim, id, priority)
  local found = read(id, 'v', 'state', 'submitted_at', 'expires_at', 'crashes', 'attempts')
  if not found or found[2] ~= 'queued' then return 'elsewhere' end
  local version, submitted_at, expires_at, lost = tonumber(found[1]), found[3], found[4], whole(found[5]) or 0
  if not (version and claim.reads_from <= version and version <= claim.reads_to) then return 'unreadable' end
  local problem = damaged(id, submitted_at, expires_at, found[6])
  local suspect = claim.suspect_after > 0 and lost >= claim.suspect_after
  if problem then
    put_aside(id, problem)
  elseif tonumber(expires_at) <= claim.time then
    finish(id, 'dead', 'expired', '', claim.ttl)
    claim.expired[#claim.expired + 1] = id
  elseif #claim.claims >= claim.count then
    return 'full'
  elseif suspect and not claim.suspect_allowed then
    retry_at(id, now + claim.suspect_delay)
  else
    claim.suspect_allowed = claim.suspect_allowed and not suspect
    if not claim.token then
      claim.token = math.max(redis.call('INCR', TOKEN), clock[1] * 1000000 + clock[2])
      redis.call('SET', TOKEN, claim.token + claim.count)
    end
    local token = claim.token
    claim.token = token + 1
    local attempt = redis.call('HINCRBY', entry(id), 'attempts', 1)
    redis.call('HSET', entry(id), 'state', 'running', 'token', token)
    redis.call('ZREM', INDEX_OF[priority], id)
    redis.call('ZADD', LEASES, now + claim.lease, id)
    local mission = redis.call('HMGET', entry(id), 'submitter', 'url')
    claim.claims[#claim.claims + 1] = {id, token, attempt, mission[1], mission[2], submitted_at, expires_at, lost}
    return 'claimed'
  end
end
