-- Claim up to `count` of these missions; a message is only a wake-up, so one that is done or leased is passed over.
-- Those that would be claimable but exceed `count` are held: no longer missed, so that the reaper does not take them for lost.
-- A mission that outlived so many leases may be what kills its workers: a suspect. One of them is claimed at most, and only where
-- the caller has room for it; the others come back after a delay.
-- ARGV: oldest and newest schema to read, count, lease in ms, ledger TTL in s, 1 if a suspect may be claimed, how many lost leases
-- make one (0: there are none), delay of the others in ms, the caller's clock in ms, id...
-- Returns {the time by which missions expire, claims, held ids, expired ids, unreadable ids};
-- a claim is {id, token, attempt, submitter, url, submitted_at, expires_at, lost leases}.
if #ARGV > 9 + 1024 then return redis.error_reply('ERR claim takes 1024 ids at most') end
for i = 1, 9 do
  if not whole(ARGV[i]) then return redis.error_reply('ERR claim takes whole numbers before the ids') end
end
local reads_from, reads_to = tonumber(ARGV[1]), tonumber(ARGV[2])
local count, lease, ttl = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local suspect_allowed, suspect_after, suspect_delay = ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])
local time = agreed(ARGV[9])
local claims, held, expired, unreadable = {}, {}, {}, {}
local head = tonumber(redis.call('GET', HEAD) or 0)
local moved = false

local function readable(version)
  version = tonumber(version)
  return version and reads_from <= version and version <= reads_to
end

-- The field that no release could have left so. The large ones are not read to find that out.
local function damaged(id, found)
  for name, most in pairs({submitter = MOST_NAME, url = MOST_URL}) do
    local size = redis.call('HSTRLEN', entry(id), name)
    if size == 0 or size > most then return name end
  end
  if not whole(found[3]) then return 'submitted_at' end
  if not whole(found[4]) then return 'expires_at' end
  return found[7] and not whole(found[7]) and 'attempts' or nil
end

for i = 10, #ARGV do
  local id = ARGV[i]
  local found = read(id, 'v', 'state', 'submitted_at', 'expires_at', 'crashes', 'again', 'attempts')
  if found and found[2] == 'queued' then
    local lost = whole(found[5]) or 0
    local suspect = suspect_after > 0 and lost >= suspect_after
    local seq = tonumber(redis.call('ZSCORE', QUEUED, id) or 0)
    local problem = damaged(id, found)
    -- An older message may still wake a mission that was published again: that tells nothing of how far the queue has come.
    if seq > head and not found[6] then head, moved = seq, true end
    if not readable(found[1]) then
      unreadable[#unreadable + 1] = id
    elseif problem then
      put_aside(id, problem)
    elseif tonumber(found[4]) <= time then
      finish(id, 'dead', 'expired', '', ttl)
      expired[#expired + 1] = id
    elseif #claims >= count then
      redis.call('HDEL', entry(id), 'missed_at')
      held[#held + 1] = id
    elseif suspect and not suspect_allowed then
      retry_at(id, now + suspect_delay)
    else
      suspect_allowed = suspect_allowed and not suspect
      -- One counter for all missions: a token never comes back, not even under an id that was forgotten and admitted anew. It keeps
      -- up with the clock in µs, so that it does not fall either where a failover or a crash has lost the newest of it.
      local token = math.max(redis.call('INCR', TOKEN), clock[1] * 1000000 + clock[2])
      redis.call('SET', TOKEN, token)
      local attempt = redis.call('HINCRBY', entry(id), 'attempts', 1)
      redis.call('HSET', entry(id), 'state', 'running', 'token', token)
      redis.call('ZREM', QUEUED, id)
      redis.call('ZADD', LEASES, now + lease, id)
      local mission = redis.call('HMGET', entry(id), 'submitter', 'url')
      claims[#claims + 1] = {id, token, attempt, mission[1], mission[2], found[3], found[4], lost}
    end
  end
end
if moved then redis.call('SET', HEAD, head) end
return {time, claims, held, expired, unreadable}
