-- Stands in front of every script, after the names of the keys (`mission.store.names.Key`). Time is the server's, in milliseconds.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

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
