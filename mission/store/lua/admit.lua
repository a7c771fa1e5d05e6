-- Admit missions of one submitter: queue limit, quotas (GCRA; stored bytes), idempotency, ledger entry. Each mission is atomic.
-- ARGV: schema to write, submitter, queue limit, quota missions, quota milliseconds, the submitter's limit for stored sealed results in
-- bytes (0: no limit). Then missions per message, their batch or '', how long it is kept in s, the number of messages, the messages.
-- Then for each mission, at most 1,024:
--   id, URL record, lifetime in ms, idempotency or ''.
-- Last, their priority, by default normal.
-- Idempotency is a JSON list of the missions that the key may stand for: [id, key id, fingerprint of the URL, 1 if the id only stands for
-- this URL, so that another one is a conflict], this mission first.
-- Each message wakes a worker for the missions at its position; a message without a new mission is not sent.
-- Returns for each mission that was not newly admitted {its position from 1, verdict, id, state or milliseconds to wait}.
local per_message, messages = whole(ARGV[7], 4), whole(ARGV[10], 4)
local batch, batch_seconds = ARGV[8], whole(ARGV[9], 10)
if not (batch == '' or #batch == 36 and batch_seconds) then return redis.error_reply('ERR admit takes no such batch') end
if not (per_message and per_message > 0 and messages and messages <= 1024) then
  return redis.error_reply('ERR admit takes 1024 messages at most')
end
local first_mission = 11 + messages
for i = 11, 10 + messages do
  if #(ARGV[i] or '') > MOST_MESSAGE then return redis.error_reply('ERR admit takes messages of 16 KiB at most') end
end
local priority, last = 'normal', #ARGV
if (last - first_mission) % 4 == 0 then
  priority, last = ARGV[last], last - 1
  if not INDEX_OF[priority] then return redis.error_reply('ERR admit takes no such priority') end
end
if last >= first_mission + 4 * 1024 then return redis.error_reply('ERR admit takes 1024 missions at most') end
local schema, submitter = ARGV[1], ARGV[2]
local limit, quota, period, stored_quota = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- Validate before writing: arguments of a manual call must neither fail halfway nor keep the server busy.
local known = {}
local function sound(id, key)
  if type(key[1]) ~= 'table' or key[1][1] ~= id or #key > 32 then return false end
  for _, one in ipairs(key) do
    if type(one) ~= 'table' then return false end
    for field = 1, 3 do
      if type(one[field]) ~= 'string' then return false end
    end
  end
  return true
end
local function within(number, least, most) return number and least <= number and number < most end
if #submitter > MOST_NAME then return redis.error_reply('ERR admit takes a submitter of 64 characters at most') end
if not (within(limit, 0, 2 ^ 53) and within(quota, 0, 2 ^ 53) and within(stored_quota, 0, 2 ^ 53)
  and (quota == 0 or within(period, 1, 1e14))) then
  return redis.error_reply('ERR admit takes no such limits')
end
for i = first_mission, last, 4 do
  local lifetime, idempotency = tonumber(ARGV[i + 2]), ARGV[i + 3]
  local good = within(lifetime, 0, 1e14) and lifetime % 1 == 0 and idempotency and #idempotency <= 4096
  if good and idempotency ~= '' then
    good, known[i] = pcall(cjson.decode, idempotency)
    good = good and type(known[i]) == 'table' and sound(ARGV[i], known[i])
  end
  if not good or #ARGV[i + 1] > MOST_URL then return redis.error_reply('ERR admit takes no such mission') end
end

-- These calls fail if a key has another type, before there is an entry that no index contains.
local waiting = redis.call('ZCARD', OPEN)
redis.call('ZCARD', INDEX_OF[priority])
redis.call('ZCARD', EXPIRY)
local missions = (last - first_mission + 1) / 4
local seq = redis.call('INCRBY', SEQ, missions) - missions + 1 -- the age of the first mission
local quota_key = QUOTA .. submitter
local tat = quota > 0 and tonumber(redis.pcall('GET', quota_key)) or now
-- No admission sets it more than a period ahead: somebody else did, or Redis' clock went back.
if not (tat <= now + period) then tat = now end
local spent = false
local bytes, first = 0, now
if stored_quota > 0 then bytes, first = stored(submitter, '') end
local answers, wakes = {}, {}
local at = string.format('%.0f', now)
-- The entries of all new missions, for one write to each index and to their line.
local queued, open, expiry, new = {}, {}, {}, {}
local members = {} -- of the batch

local function refuse(reason, id, wait)
  redis.pcall('HINCRBY', REFUSALS, reason, 1) -- a broken counter must not abort an admission halfway
  return {reason, id, tostring(wait)}
end

-- The mission that an earlier admission stored under one of these ids, if any. A caller that names a known id must show that it stands
-- for the same URL. If the key holds no entry, or an entry without a fingerprint, that is not possible.
local function earlier(id, key)
  local conflict
  for _, one in ipairs(key or {{id, '', '', 1}}) do
    local found = redis.pcall('HMGET', entry(one[1]), 'state', 'print_key', 'print')
    if found[1] and (not key or found[2] == one[2] and found[3] == one[3]) then return {'duplicate', one[1], found[1]} end
    if one[4] == 1 and (found.err or found[1]) then conflict = one[1] end
  end
  return conflict and refuse('idempotency_conflict', conflict, 0)
end

for i = first_mission, last, 4 do
  local id, url, lifetime = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local place = (i - first_mission) / 4
  local answer = earlier(id, known[i])
  if not answer and waiting >= limit then answer = refuse('queue_full', id, 0) end
  if not answer and bytes > 0 and bytes >= stored_quota then
    answer = refuse('stored_quota_exceeded', id, first - now)
  end
  if not answer and quota > 0 then
    local next_tat = math.max(tat, now) + period / quota
    if next_tat - now > period then
      answer = refuse('quota_exceeded', id, math.ceil(next_tat - now - period))
    else
      tat, spent = next_tat, true
    end
  end
  if answer then
    table.insert(answer, 1, place + 1)
    answers[#answers + 1] = answer
    if answer[2] == 'duplicate' then members[#members + 1] = answer[3] end
  else
    local expires = string.format('%.0f', now + lifetime)
    redis.call('HSET', entry(id), 'v', schema, 'state', 'queued', 'url', url, 'submitter', submitter,
      'submitted_at', at, 'expires_at', expires)
    if known[i] then
      redis.call('HSET', entry(id), 'print_key', known[i][1][2], 'print', known[i][1][3])
    end
    if priority ~= 'normal' then redis.call('HSET', entry(id), 'priority', priority) end
    members[#members + 1] = id
    new[#new + 1] = id
    local n = #open
    queued[n + 1], queued[n + 2] = seq, id
    open[n + 1], open[n + 2] = at, id
    expiry[n + 1], expiry[n + 2] = expires, id
    seq, waiting = seq + 1, waiting + 1
    wakes[math.floor(place / per_message) + 1] = true
  end
end
if #open > 0 then
  redis.call('ZADD', OPEN, unpack(open))
  redis.call('ZADD', EXPIRY, unpack(expiry))
  redis.call('ZADD', INDEX_OF[priority], unpack(queued))
  line_up(priority, submitter, new)
end
-- The same missions, sent again after an interruption, use the same field. A batch key of another type does not prevent the admission.
if batch ~= '' and #members > 0 then
  redis.pcall('HSET', BATCH .. batch, members[1], table.concat(members))
  redis.pcall('EXPIRE', BATCH .. batch, batch_seconds)
end
if spent then redis.call('SET', quota_key, string.format('%.3f', tat), 'PX', math.ceil(period)) end
-- If the queue has another type, the missions are still admitted: the reaper finds them.
for place = 1, messages do
  if wakes[place] then redis.pcall('LPUSH', MESSAGES_OF[priority], ARGV[10 + place]) end
end
return answers
