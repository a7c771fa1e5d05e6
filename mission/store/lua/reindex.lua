-- Make the indexes agree with each mission's entry; set aside an entry that no release writes.
-- ARGV: how long a damaged entry stays set aside and how long an ended mission's entry is kept, in s; a lease in ms; then ids.
-- Returns for each id what was done: 'ok' (nothing), 'indexed', 'damaged', or 'gone' if indexes held an id without an entry.
if #ARGV > 3 + 1024 then return redis.error_reply('ERR reindex takes 1024 ids at most') end
local stay, ttl, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local hex = '%x%x%x%x'
local uuid = '^' .. hex .. hex .. '%-' .. hex .. '%-' .. hex .. '%-' .. hex .. '%-' .. hex .. hex .. hex .. '$'
local place = {queued = QUEUED, running = LEASES, retrying = DUE}
local done = {}

-- Remove an id from an index; return whether it was there.
local function off(index, id) return redis.call('ZREM', index, id) == 1 end

-- Add it with this score if it is missing or its score is impossible; return whether that changed anything.
local function on(index, id, score, strict)
  local found = tonumber(redis.call('ZSCORE', index, id) or nil)
  if found and found > 0 and found < 2 ^ 53 and (not strict or found == score) then return false end
  redis.call('ZADD', index, score or redis.call('INCR', SEQ), id)
  return true
end

-- Whether the entry has all fields that its state needs.
local function complete(state, found)
  if ENDED_IN[state] then return true end
  -- Before its first claim, a mission has neither token nor attempts.
  return found[2] and (not found[3] or whole(found[3], 16)) and (not found[4] or whole(found[4])) and whole(found[5]) and whole(found[6])
end

for i = 4, #ARGV do
  local id = ARGV[i]
  local type = redis.call('TYPE', entry(id)).ok
  local found = type == 'hash'
    and redis.call('HMGET', entry(id), 'state', 'url', 'token', 'attempts', 'submitted_at', 'expires_at', 'finished_at', 'host', 'priority',
      'submitter') or {}
  local state = found[1]
  local priority = INDEX_OF[found[9]] and found[9] or 'normal'
  local changed = false
  if type == 'none' or not string.match(id, uuid) or not (state and string.match(state, '^%w[%w_.-]*$')) or not complete(state, found) then
    changed = off_indexes(id)
    if type ~= 'none' then
      redis.call('RENAME', entry(id), ASIDE .. 'm:' .. id)
      redis.call('EXPIRE', ASIDE .. 'm:' .. id, stay)
      done[#done + 1] = 'damaged'
    else
      done[#done + 1] = changed and 'gone' or 'ok'
    end
    redis.call('HDEL', DAMAGED, id)
  elseif place[state] or ENDED_IN[state] then
    place.retrying, place.queued = DUE, INDEX_OF[priority]
    for _, index in pairs(INDEX_OF) do
      if index ~= place.queued then changed = off(index, id) or changed end
    end
    for of, index in pairs(place) do
      if of ~= state then changed = off(index, id) or changed end
    end
    if state == 'retrying' then
      -- With the host's other missions, until the host's turn.
      place.retrying = group_of(found[8] or '')
      if place.retrying ~= DUE then changed = off(DUE, id) or changed end
      if redis.call('TYPE', place.retrying).ok ~= 'zset' then redis.call('DEL', place.retrying) end
    end
    if place[state] then
      local new = on(place[state], id, state == 'running' and now + lease or state == 'retrying' and now)
      if new and state == 'queued' then line_up(priority, found[10] or '', {id}) end
      changed = new or changed
      if state == 'retrying' then
        local first = redis.call('ZRANGE', place.retrying, 0, 0, 'WITHSCORES')[2]
        changed = redis.call('ZADD', DUE_HOSTS, 'LT', first, found[8] or '') == 1 or changed
      end
      changed = on(OPEN, id, math.min(whole(found[5]), now)) or changed
      changed = on(EXPIRY, id, whole(found[6]), true) or changed
      changed = off(DEAD, id) or changed
      changed = redis.call('PERSIST', entry(id)) == 1 or changed
    else
      changed = off(OPEN, id) or changed
      changed = off(EXPIRY, id) or changed
      if state == 'dead' and found[2] then
        changed = on(DEAD, id, math.min(whole(found[7]) or now, now)) or changed
      else
        changed = off(DEAD, id) or changed
      end
      if redis.call('TTL', entry(id)) == -1 then
        redis.call('EXPIRE', entry(id), ttl)
        changed = true
      end
    end
    redis.call('HDEL', DAMAGED, id)
    done[#done + 1] = changed and 'indexed' or 'ok'
  else
    done[#done + 1] = 'ok' -- a state of a newer release, which maintains its own indexes
  end
end
return done
