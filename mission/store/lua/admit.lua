-- Admit missions of one submitter: queue limit, quota (GCRA), idempotency, ledger entry. All or none of a mission.
-- ARGV: schema to write, submitter, queue limit, quota missions, quota milliseconds, then for each mission:
--   id, URL record, lifetime in ms, idempotency as JSON {"ids": [...], "prints": {key id: fingerprint}} or ''.
-- Returns for each mission {verdict, id, state or milliseconds to wait}.
if #ARGV > 5 + 4 * 1024 then return redis.error_reply('ERR admit takes 1024 missions at most') end
local schema, submitter = ARGV[1], ARGV[2]
local limit, quota, period = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local waiting = redis.call('ZCARD', OPEN)
local quota_key = QUOTA .. submitter
local tat = quota > 0 and tonumber(redis.call('GET', quota_key) or now) or 0
if tat > now + period then tat = now end -- Redis' clock ran ahead, and was put back
local spent = false
local answers = {}

local function refuse(reason, id, wait)
  redis.call('HINCRBY', REFUSALS, reason, 1)
  return {reason, id, tostring(wait)}
end

-- The mission that an earlier admission left under one of these ids, if any.
local function earlier(id, known)
  local prints = known and known.prints or {}
  for _, other in ipairs(known and known.ids or {id}) do
    local found = redis.call('HMGET', entry(other), 'state', 'print_key', 'print')
    if found[1] then
      if found[2] and prints[found[2]] ~= found[3] then return refuse('idempotency_conflict', other, 0) end
      return {'duplicate', other, found[1]}
    end
  end
  return nil
end

for i = 6, #ARGV, 4 do
  local id, url, lifetime, idempotency = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  if #idempotency > 65536 then return redis.error_reply('ERR admit takes 64 KiB of idempotency at most') end
  local known = idempotency ~= '' and cjson.decode(idempotency)
  local answer = earlier(id, known)
  if not answer and waiting >= limit then answer = refuse('queue_full', id, 0) end
  if not answer and quota > 0 then
    local next_tat = math.max(tat, now) + period / quota
    if next_tat - now > period then
      answer = refuse('quota_exceeded', id, math.ceil(next_tat - now - period))
    else
      tat, spent = next_tat, true
    end
  end
  if not answer then
    redis.call('HSET', entry(id), 'v', schema, 'state', 'queued', 'url', url, 'token', '0', 'attempts', '0',
      'submitter', submitter, 'submitted_at', now, 'expires_at', now + lifetime)
    if known then
      redis.call('HSET', entry(id), 'print_key', known.writes, 'print', known.prints[known.writes])
    end
    redis.call('ZADD', OPEN, now, id)
    redis.call('ZADD', EXPIRY, now + lifetime, id)
    enqueue(id)
    waiting = waiting + 1
    answer = {'new', id, 'queued'}
  end
  answers[#answers + 1] = answer
end
if spent then redis.call('SET', quota_key, string.format('%.3f', tat), 'PX', math.ceil(period)) end
return answers
