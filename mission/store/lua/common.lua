-- Stands in front of every script, after the names of the keys (`mission.store.names.Key`). Time is the server's, in milliseconds.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- By what time missions expire: Redis' clock, unless it is a minute or more ahead of the caller's. No clock that jumps ends one alone.
local function agreed(callers)
  callers = tonumber(callers)
  return now - callers < 60000 and now or callers
end

local function entry(id) return ENTRY .. id end

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

local function detach(id)
  redis.call('ZREM', QUEUED, id)
  redis.call('ZREM', LEASES, id)
  redis.call('ZREM', DUE, id)
end

local function retry_at(id, time)
  detach(id)
  redis.call('HSET', entry(id), 'state', 'retrying')
  redis.call('ZADD', DUE, time, id)
end

-- The one way into a terminal state.
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
    redis.call('HDEL', entry(id), 'url')
  end
  redis.call('HINCRBY', FINISHED, state, 1)
  redis.call('EXPIRE', entry(id), ttl)
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
  for i, value in ipairs({a, b, c, d, e}) do breaker[BREAKER[i]] = tonumber(value) end
  -- What is still to come did not happen: the clock ran back. It must not make a pause longer.
  if breaker.failed_at > now then breaker.failed_at, breaker.paused_until = now, math.min(breaker.paused_until, now) end
  if breaker.reached_at > now then breaker.reached_at = 0 end
  if breaker.probed_at > now then breaker.probed_at = 0 end
  return breaker
end

local function keep_breaker(host, breaker)
  local text = {}
  for i, name in ipairs(BREAKER) do text[i] = string.format('%.0f', breaker[name]) end
  redis.call('HSET', HOSTS, host, table.concat(text, ' ') .. ' ' .. breaker.submitter)
end
