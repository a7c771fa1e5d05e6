-- End a mission, if the caller holds its current token. A stale holder changes nothing.
-- The caller sets the sealed result in the same transaction, since a worker may not read results. This function deletes a result that does
-- not count. It also does so if the submitter's quota for stored results is full: it becomes a dead letter, to replay once there is room.
-- ARGV: id, token, state, reason, secrets, ledger TTL in s. Then the sealed result's bytes (0 without one) and its lifetime in ms, the
-- submitter's limit for stored bytes (0: no limit), what cut the search short or '', and the allowlist entry of its host or ''.
-- Returns the mission's state (also if this commit was already done and only its answer was lost), or 'stale'.
for i = 6, 9 do
  if not whole(ARGV[i]) then return redis.error_reply('ERR commit takes whole numbers after the secrets') end
end
local id, token, state = ARGV[1], ARGV[2], ARGV[3]
local size, lifetime, quota = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local found = redis.pcall('HMGET', entry(id), 'state', 'token', 'reason', 'submitter') -- an error for another type: nobody holds it

local function take_back(answer)
  if size > 0 then redis.call('DEL', RESULT .. id .. ':' .. token) end
  return answer
end

local function store(submitter)
  local width = math.max(1, math.floor(lifetime / 32))
  local gone_at = math.ceil((now + lifetime) / width) * width
  local key = STORED .. submitter
  local bytes, first, at_moment, over = stored(submitter, gone_at)
  if bytes + size > quota then return false end
  if over == 'all' then
    redis.call('DEL', key)
  elseif over and #over > 0 then
    redis.call('HDEL', key, unpack(over))
  end
  redis.call('HSET', key, gone_at, at_moment + size, 'bytes', bytes + size, 'until', math.min(first, gone_at))
  if over or at_moment == 0 then
    for _, when in ipairs({'NX', 'GT'}) do redis.call('EXPIRE', key, math.ceil((gone_at - now) / 1000), when) end
  end
  return true
end

if found[2] ~= token then return take_back('stale') end
if found[1] == 'dead' and found[3] == 'stored_quota_exceeded' then return take_back('dead') end
if found[1] ~= 'running' then return found[1] == state and state or take_back('stale') end
if size > 0 and quota > 0 and not store(found[4] or '') then
  finish(id, 'dead', 'stored_quota_exceeded', '', ARGV[6])
  if (ARGV[11] or '') ~= '' then redis.call('HSET', entry(id), 'allowed_by', ARGV[11]) end
  return take_back('dead')
end
finish(id, state, ARGV[4], ARGV[5], ARGV[6])
if (ARGV[10] or '') ~= '' then redis.call('HSET', entry(id), 'cut', ARGV[10]) end
return state
