-- The library's first part, between the names of the keys (`mission.store.names.Key`) and the functions.

-- The server's clock, as TIME returns it and in milliseconds. Each function reads it first.
local clock, now
local function read_clock()
  clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- The clock that expiry uses: Redis' clock, or the caller's if Redis' is a minute or more ahead. So one jumping clock ends no mission.
local function agreed(callers)
  callers = tonumber(callers)
  return now - callers < 60000 and now or callers
end

local function entry(id) return ENTRY .. id end

-- The most bytes of a submitter's name, of an encrypted URL (at most 8,192 characters of text), and of a message for 256 missions.
local MOST_NAME, MOST_URL, MOST_MESSAGE = 64, 16384, 16384
-- The most missions to claim in one call.
local MOST_CLAIMS = 1024

-- The missions that wait for one host form a group; those that wait for no host ('') form another.
local function group_of(host) return host == '' and DUE or DUE_OF .. host end

-- The priorities, and the index of each one's waiting missions. An entry without a priority counts as normal.
local PRIORITIES = {'high', 'normal', 'low'}
local INDEX_OF = {high = QUEUED_HIGH, normal = QUEUED, low = QUEUED_LOW}
local function line_of(priority, submitter) return LINE .. priority .. ':' .. submitter end

-- Remove an id from all indexes except its host's; return whether one contained it.
local function off_indexes(id)
  local count = 0
  for _, index in ipairs({QUEUED, QUEUED_HIGH, QUEUED_LOW, LEASES, DUE, OPEN, EXPIRY, DEAD}) do count = count + redis.call('ZREM', index, id) end
  return count > 0
end

-- Set aside an id that is not a mission, so that it blocks nobody: off the indexes, on a list that an operator sees.
local function put_aside(id, what)
  off_indexes(id)
  if redis.call('HLEN', DAMAGED) < 10000 then redis.call('HSET', DAMAGED, string.sub(id, 1, 64), what) end
end

-- Fields of a mission's entry; nil if its key has another type: then it is set aside.
local function read(id, ...)
  local found = redis.pcall('HMGET', entry(id), ...)
  if not found.err then return found end
  if not string.find(tostring(found.err), 'WRONGTYPE', 1, true) then error(tostring(found.err)) end
  put_aside(id, 'type')
  return nil
end

-- The whole number in a field, of at most `digits` digits (by default 15; a token, a time in µs, has 16); nil if it holds none.
local function whole(text, digits)
  return text and #text <= (digits or 15) and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- Whether this may be a mission's id; other ids are set aside.
local function is_id(id)
  if #id == 36 and string.match(id, '^[%x-]+$') then return true end
  put_aside(id, 'id')
  return false
end

-- The state of a mission from an index. Nil if it no longer has one (forgotten, or deleted by hand): then remove it from the indexes.
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

-- Append missions to their submitter's line. If the submitter has no line so far, put it behind those whose turn comes first.
-- Only the index decides which missions wait: if this fails, missions without a line are claimed by age.
local function line_up(priority, submitter, ids)
  if #submitter > MOST_NAME then return end
  redis.pcall('RPUSH', line_of(priority, submitter), unpack(ids))
  local turn = redis.pcall('HGET', TURNS, 'turn')
  redis.pcall('ZADD', RING .. priority, 'NX', (type(turn) == 'string' and whole(turn) or 0) + 1, submitter)
end

-- Put a mission (back) among those that wait for a worker. The caller publishes it.
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
  -- If a worker holds it, or it waits for a worker, it waits for no host.
  for _, index in ipairs({LEASES, QUEUED, QUEUED_HIGH, QUEUED_LOW}) do
    if redis.call('ZREM', index, id) == 1 then return end
  end
  local found = read(id, 'host')
  local host = found and found[1]
  redis.pcall('ZREM', group_of(host or ''), id) -- a key of another type does not contain it
  if host then redis.call('HDEL', entry(id), 'host', 'put_off', 'due_at') end
end

-- A host's breaker: consecutive failures, their submitter ('*': several), and times in ms (0: never).
-- For TRUSTED_FOR ms after a successful fetch, the failures of only one submitter do not pause the host for the others.
local TRUSTED_FOR = 30000
local BREAKER = {'failures', 'paused_until', 'failed_at', 'reached_at', 'probed_at'}

-- The breaker in a text; nil if it holds none.
local function breaker_in(text)
  local a, b, c, d, e, submitter = string.match(text or '', '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+)$')
  if not a then return nil end
  local breaker = {submitter = submitter}
  for i, value in ipairs({a, b, c, d, e}) do
    breaker[BREAKER[i]] = whole(value)
    if not breaker[BREAKER[i]] then return nil end
  end
  -- Times in the future mean that the clock went back. They must not make a pause longer.
  if breaker.failed_at > now then
    breaker.failed_at, breaker.paused_until, breaker.ran_back = now, math.min(breaker.paused_until, now), true
  end
  if breaker.reached_at > now then breaker.reached_at = 0 end
  if breaker.probed_at > now then breaker.probed_at = 0 end
  return breaker
end

-- The breaker of a host; nil if there is none, or its value is not one.
local function breaker_of(host)
  local text = redis.pcall('HGET', HOSTS, host)
  return type(text) == 'string' and breaker_in(text) or nil
end

local function keep_breaker(host, breaker)
  local text = {}
  for i, name in ipairs(BREAKER) do text[i] = string.format('%.0f', breaker[name]) end
  redis.call('HSET', HOSTS, host, table.concat(text, ' ') .. ' ' .. breaker.submitter)
end

-- Retry the mission at `time`, or later if its host is then paused or needs a probe first.
local function retry_at(id, time, host)
  host = host or ''
  local breaker = host ~= '' and breaker_of(host)
  -- A paused host already has a turn; for another host, the turn comes when its first mission is due. This is the first write: if it
  -- fails, the mission stays where it was.
  redis.call('ZADD', DUE_HOSTS, breaker and breaker.paused_until > 0 and 'NX' or 'LT', time, host)
  detach(id)
  redis.call('HSET', entry(id), 'state', 'retrying', 'host', host, 'due_at', math.max(time, breaker and breaker.paused_until or 0))
  if type(redis.pcall('ZADD', group_of(host), time, id)) == 'table' then
    redis.call('DEL', group_of(host)) -- not a sorted set, so it contains no mission
    redis.call('ZADD', group_of(host), time, id)
  end
end

-- The final states.
local ENDED_IN = {succeeded = true, failed = true, dead = true, cancelled = true}

-- Add the end to the outcomes. Neither a key of another type nor a login without the right to it may abort this halfway.
local function tell(id, state, reason, secrets)
  local found = redis.pcall('HMGET', entry(id), 'submitter', 'submitted_at')
  local function told(value) return value and #value <= MOST_NAME and value or '' end -- no release writes a longer one
  redis.pcall('XADD', OUTCOMES, 'MAXLEN', '~', MOST_OUTCOMES, '*', 'id', id, 'submitter', told(found[1]), 'state', state,
    'reason', reason, 'secrets', secrets, 'submitted_at', told(found[2]), 'finished_at', now)
end

-- The only way into a final state.
local function finish(id, state, reason, secrets, ttl)
  detach(id)
  redis.call('ZREM', OPEN, id)
  redis.call('ZREM', EXPIRY, id)
  redis.call('HSET', entry(id), 'state', state, 'reason', reason, 'secrets', secrets, 'finished_at', now)
  if state == 'dead' then
    remember(id, reason)
    redis.call('ZADD', DEAD, now, id)
  else
    -- Nobody fetches it again: delete what is no longer needed.
    redis.call('HDEL', entry(id), 'url', 'expires_at')
  end
  redis.pcall('HINCRBY', FINISHED, state, 1) -- a broken counter must not abort this halfway
  redis.call('EXPIRE', entry(id), ttl)
  tell(id, state, reason, secrets)
  redis.pcall('PUBLISH', ENDED .. id, state) -- notify waiting clients; a login without the right must not abort this halfway
end

-- How many bytes of sealed results a submitter has stored, when in ms the next ones expire, and how many expire at `moment`. They are
-- kept in a hash: bytes by expiry time in ms, and `bytes`, their sum, which is valid until `until`. After that, they are counted again;
-- then the fourth value lists the fields to delete, or is 'all' if the key is not such a hash.
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
    if #found > 1000 then return 0, first, 0, 'all' end -- a sound hash has a few dozen at most
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

-- A claim in progress: the missions that it claims, and those that it finds expired. Nil if ARGV does not begin with these numbers:
--   oldest and newest schema to read, count, lease in ms, ledger TTL in s, 1 if a suspect may be claimed. Then how many lost leases make
--   a suspect (0: none is), the delay of the other suspects in ms, and the caller's clock in ms.
-- A mission that lost that many leases is a suspect: it may be what kills its workers. At most one is claimed, and only if the caller
-- has room for it; the others are due again after the delay.
-- Fencing tokens come from one counter for all missions, which each claim advances by its maximum. So no token repeats, not even for
-- an id that was forgotten and admitted again. The counter follows the clock in µs, so it does not fall if a failover or a crash loses
-- its newest value.
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

-- The name of a field with a value that no release writes, if any. This does not read the large fields.
local function damaged(id, submitted_at, expires_at, attempts)
  for name, most in pairs({submitter = MOST_NAME, url = MOST_URL}) do
    local size = redis.call('HSTRLEN', entry(id), name)
    if size == 0 or size > most then return name end
  end
  if not whole(submitted_at) then return 'submitted_at' end
  if not whole(expires_at) then return 'expires_at' end
  return attempts and not whole(attempts) and 'attempts' or nil
end

-- Claim a mission of a priority. Returns 'claimed', 'elsewhere' (it does not wait), 'unreadable' (its schema), 'full' (the claim), or nil
-- if this function ended, delayed or set it aside. A claim is {id, token, attempt, submitter, url, submitted_at, expires_at, lost leases}.
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
