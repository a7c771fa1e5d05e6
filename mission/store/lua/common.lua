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

-- Those that wait for a host lie together; the others, '', have a group of their own.
local function group_of(host) return host == '' and DUE or DUE_OF .. host end

-- Take an id off all indexes but its host's; whether it was on one.
local function off_indexes(id)
  local count = 0
  for _, index in ipairs({QUEUED, LEASES, DUE, OPEN, EXPIRY, DEAD}) do count = count + redis.call('ZREM', index, id) end
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

-- The state of a mission from an index. Nil where it has none any more (forgotten, evicted by hand): then it is in no index either.
local function state_of(id)
  if #id ~= 36 or not string.match(id, '^[%x-]+$') then
    put_aside(id, 'id')
    return nil
  end
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

-- Put a mission (back) among those that wait for a message. Returns nothing: publishing is the caller's.
local function enqueue(id)
  local seq = redis.call('INCR', SEQ)
  redis.call('HSET', entry(id), 'state', 'queued')
  redis.call('ZADD', QUEUED, seq, id)
end

local function enqueue_again(id)
  redis.call('HSET', entry(id), 'again', '1')
  redis.call('HDEL', entry(id), 'missed_at', 'host', 'put_off', 'due_at')
  enqueue(id)
end

local function detach(id)
  -- It waits for a worker, or is in one's hands: then it waits for no host.
  if redis.call('ZREM', LEASES, id) + redis.call('ZREM', QUEUED, id) > 0 then return end
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
  local found = {}
  for i, name in ipairs({'submitter', 'submitted_at'}) do
    local size = redis.pcall('HSTRLEN', entry(id), name)
    found[i] = type(size) == 'number' and size <= MOST_NAME and redis.call('HGET', entry(id), name) or '' -- a longer one no release wrote
  end
  redis.pcall('XADD', OUTCOMES, 'MAXLEN', '~', MOST_OUTCOMES, '*', 'id', id, 'submitter', found[1], 'state', state,
    'reason', reason, 'secrets', secrets, 'submitted_at', found[2], 'finished_at', now)
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
