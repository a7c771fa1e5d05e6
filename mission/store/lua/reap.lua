-- Find stuck missions, and return those to publish again. Only one reaper runs within an interval, whatever their number.
-- ARGV: '' (the last release sends 1 if the queue holds no message, else 0), its grace period in ms, limit, max attempts. Then the ledger
-- TTL in s, the interval in ms, the caller's clock in ms, and how many lost leases make a suspect.
-- Returns {ids whose lease expired, ids of lost messages, dead missions as {id, reason}, expired leases, lost messages}.
local idle, grace, limit = ARGV[1] == '1', tonumber(ARGV[2]), tonumber(ARGV[3])
local max_attempts, ttl, suspect_after = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[8])
local alone, batch, dead = {}, {}, {}
local leases, lost = 0, 0
if not redis.call('SET', REAPER, '1', 'NX', 'PX', ARGV[6]) then return {alone, batch, dead, 0, 0} end

local function bury(id, reason)
  finish(id, 'dead', reason, '', ttl)
  dead[#dead + 1] = {id, reason}
end

-- Missions that are too old, paused or not. A running one with a lease ends with the lease, which is short. Others are from a newer release
-- or were put there by hand: look at them again in an hour, so that they hide no other.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', agreed(ARGV[7]), 'LIMIT', 0, limit)) do
  local state = state_of(id)
  local lease = state == 'running' and redis.call('ZSCORE', LEASES, id)
  if state == 'queued' or state == 'retrying' or state == 'running' and not lease then
    bury(id, 'expired')
  elseif state then
    redis.call('ZADD', EXPIRY, lease or now + 3600000, id)
  end
end

-- 1. A lease has expired: its worker is gone. The first few times, another mission may be the cause, and the attempt does not count;
-- from then on the mission is a suspect.
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

-- 2. For workers of the last release, which claim the missions that a message names: the message was lost. The queue is empty, or has
-- advanced past the mission, or is not theirs, and nobody sees the mission for the grace period after that. The period cannot start
-- at publication: a mission that waited for hours may just have reached a worker that has not yet claimed it.
-- Each round continues where the last one ended, since workers may hold very many missions.
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

-- If no mission of a priority waits, nobody has a turn: its lines only contain missions that already left the index.
for _, priority in ipairs(PRIORITIES) do
  local ring = RING .. priority
  if redis.call('ZCARD', INDEX_OF[priority]) == 0 then
    for _, submitter in ipairs(redis.pcall('ZRANGE', ring, 0, 99)) do
      redis.call('UNLINK', line_of(priority, submitter))
      redis.call('ZREM', ring, submitter)
    end
  end
end

-- Entries of OPEN that are no unfinished missions count towards the queue limit. Check a few, and more while many of them are wrong.
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

-- The oldest first, and only as many at once as take milliseconds.
local gone = math.min(redis.call('ZCOUNT', DEAD, '-inf', now - tonumber(ttl) * 1000), 10 * limit)
if gone > 0 then redis.call('ZREMRANGEBYRANK', DEAD, 0, gone - 1) end
-- This deletes whole blocks, so a million outcomes take milliseconds.
redis.pcall('XTRIM', OUTCOMES, 'MINID', string.format('%.0f', math.max(0, now - tonumber(ttl) * 1000)))
return {alone, batch, dead, leases, lost}
