-- Find what is stuck and say what is to be published again. At most one reaper does it in a second, whatever their number.
-- ARGV: '' (of the last release 1 if the queue holds no message, or 0), grace in ms for it, limit, max attempts, ledger TTL in s, interval in
-- ms, the caller's clock in ms, how many lost leases make a suspect.
-- Returns {ids whose lease ran out, ids of lost messages, dead as id, reason pairs, expired leases, lost messages}.
local idle, grace, limit = ARGV[1] == '1', tonumber(ARGV[2]), tonumber(ARGV[3])
local max_attempts, ttl, suspect_after = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[8])
local alone, batch, dead = {}, {}, {}
local leases, lost = 0, 0
if not redis.call('SET', REAPER, '1', 'NX', 'PX', ARGV[6]) then return {alone, batch, dead, 0, 0} end

local function bury(id, reason)
  finish(id, 'dead', reason, '', ttl)
  dead[#dead + 1] = {id, reason}
end

-- Too old, paused or not. A running one that somebody holds ends with its lease, which is short. What else is there a newer release left, or
-- somebody put there: it is looked at again in an hour, and hides no other until then.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', agreed(ARGV[7]), 'LIMIT', 0, limit)) do
  local state = state_of(id)
  local lease = state == 'running' and redis.call('ZSCORE', LEASES, id)
  if state == 'queued' or state == 'retrying' or state == 'running' and not lease then
    bury(id, 'expired')
  elseif state then
    redis.call('ZADD', EXPIRY, lease or now + 3600000, id)
  end
end

-- 1. A lease has run out: its worker is gone. The first few times that may be a neighbour's fault, and its attempt does not count; from
-- then on it is a suspect.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, limit)) do
  if state_of(id) then
    leases = leases + 1
    redis.call('ZREM', LEASES, id)
    remember(id, 'lease_expired')
    local counts = redis.call('HINCRBY', entry(id), 'crashes', 1) > suspect_after
    if redis.call('HINCRBY', entry(id), 'attempts', counts and 0 or -1) >= max_attempts and counts then
      bury(id, 'attempts_exhausted')
    else
      enqueue_again(id)
      alone[#alone + 1] = id
    end
  end
end

-- 2. For workers of the last release, which claim what a message names: it was lost before that. The queue is empty, or has moved past
-- it, or is not theirs, and nobody sees the mission for the grace period from there on. From its publication would not do: one that waited
-- for hours may be in a worker's hands right now, not claimed yet.
-- Each round looks on from where the last one ended: those that workers hold may be very many.
local passed = {}
if ARGV[1] ~= '' then
  local bound = idle and '+inf' or '(' .. (redis.call('GET', HEAD) or '0')
  local from = redis.call('GET', LOOKED) or '-inf'
  passed = redis.call('ZRANGEBYSCORE', QUEUED, from, bound, 'WITHSCORES', 'LIMIT', 0, limit)
  redis.call('SET', LOOKED, #passed == 2 * limit and '(' .. passed[#passed] or '-inf')
  for _, index in ipairs({QUEUED_HIGH, QUEUED_LOW}) do
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', '+inf', 'WITHSCORES', 'LIMIT', 0, limit)) do
      passed[#passed + 1] = member
    end
  end
end
for i = 1, #passed, 2 do
  local id = passed[i]
  if state_of(id) then
    local missed_at = redis.call('HGET', entry(id), 'missed_at')
    if not missed_at or tonumber(missed_at) > now then -- the clock ran ahead, and was put back
      redis.call('HSET', entry(id), 'missed_at', now)
    elseif tonumber(missed_at) + grace < now then
      lost = lost + 1
      enqueue_again(id)
      batch[#batch + 1] = id
    end
  end
end

-- Where nothing of a priority waits, nobody has a turn: what is left of lines is of missions that went otherwise.
for _, priority in ipairs(PRIORITIES) do
  local ring = RING .. priority
  if redis.call('ZCARD', INDEX_OF[priority]) == 0 then
    for _, submitter in ipairs(redis.pcall('ZRANGE', ring, 0, 99)) do
      redis.call('UNLINK', line_of(priority, submitter))
      redis.call('ZREM', ring, submitter)
    end
  end
end

-- What stands among the unfinished ones and is none counts towards the queue's limit. A few are looked at, and more while many are none.
for _ = 1, 20 do
  local none = 0
  for _, id in ipairs(redis.call('ZRANDMEMBER', OPEN, 100)) do
    local state = state_of(id)
    if not state or ENDED_IN[state] then
      redis.call('ZREM', OPEN, id)
      none = none + 1
    end
  end
  if none < 10 then break end
end

-- The oldest first, and no more at once than is done in milliseconds.
local gone = math.min(redis.call('ZCOUNT', DEAD, '-inf', now - tonumber(ttl) * 1000), 10 * limit)
if gone > 0 then redis.call('ZREMRANGEBYRANK', DEAD, 0, gone - 1) end
-- Whole blocks of them go at once, so that this takes milliseconds for a million.
redis.pcall('XTRIM', OUTCOMES, 'MINID', string.format('%.0f', math.max(0, now - tonumber(ttl) * 1000)))
return {alone, batch, dead, leases, lost}
