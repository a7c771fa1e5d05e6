-- Stands in front of every ledger script. ARGV[1] is the key prefix, ARGV[2] the schema that the caller writes, and from which to
-- which it reads: '1 1 1'.
-- Keys share one hash tag, so that Redis Cluster holds them in one slot. Time is the server's, in milliseconds.
local prefix = ARGV[1]
local schema, reads_from, reads_to = string.match(ARGV[2], '^(%d+) (%d+) (%d+)$')
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function key(name) return prefix .. name end
local function entry(id) return prefix .. 'm:' .. id end

local function readable(version)
  version = tonumber(version)
  return version and tonumber(reads_from) <= version and version <= tonumber(reads_to)
end

local function remember(id, reason)
  local history = redis.call('HGET', entry(id), 'history')
  history = (history and history ~= '') and history .. ' ' or ''
  redis.call('HSET', entry(id), 'history', history .. now .. ':' .. reason)
end

-- Put a mission (back) among those that wait for a message. Returns nothing: publishing is the caller's.
local function enqueue(id)
  local seq = redis.call('INCR', key('seq'))
  redis.call('HSET', entry(id), 'state', 'queued')
  redis.call('ZADD', key('queued'), seq, id)
end

local function detach(id)
  redis.call('ZREM', key('queued'), id)
  redis.call('ZREM', key('leases'), id)
  redis.call('ZREM', key('due'), id)
end

-- The one way into a terminal state.
local function finish(id, state, reason, secrets, ttl)
  detach(id)
  redis.call('ZREM', key('open'), id)
  redis.call('ZREM', key('expiry'), id)
  redis.call('HSET', entry(id), 'state', state, 'reason', reason, 'secrets', secrets, 'finished_at', now)
  if state == 'dead' then
    remember(id, reason)
    redis.call('ZADD', key('dead'), now, id)
  else
    -- Nobody fetches it again: what need not be kept is not kept.
    redis.call('HDEL', entry(id), 'url')
  end
  redis.call('HINCRBY', key('finished'), state, 1)
  redis.call('EXPIRE', entry(id), ttl)
end

-- Whether the caller holds the mission's lease: the fencing check.
local function holds(id, token)
  local held = redis.call('HMGET', entry(id), 'state', 'token')
  return held[1] == 'running' and held[2] == token
end
