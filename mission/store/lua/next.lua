-- Claim up to `count` missions whose turn it is. A message is only a wake-up: it does not decide whose turn it is.
-- While all priorities wait, 13 claims are 8 of high, 4 of normal and 1 of low priority; fewer claims have the same proportion.
-- This is start-time fair queueing (Goyal, Vin and Cheng, 1996): a priority without waiting missions earns no credit.
-- Within a priority, submitters take turns with their oldest missions; the longest wait since the last turn comes first. A turn is
-- assigned when it comes, not at admission, so a mission that expires in its line uses up no turn.
-- Anybody may name any number of submitters, and a producer's login may overwrite rings and indexes. So one call in eight claims by age
-- instead, and one in four of these at random: whatever the ring contains, each mission of a priority is eventually claimed.
-- ARGV: the numbers that begin a claim; then, for a caller without a message, how long in ms a mission must have waited, or ''; and the
-- priority to claim, if not all.
-- Returns {the clock that expiry uses, claims, expired ids, unreadable ids, 1 if it did not look at all waiting missions}; a claim also
-- contains its priority.
local claim = begin_claim(ARGV)
if not claim then return redis.error_reply('ERR next takes whole numbers') end
local claims, unreadable = claim.claims, {}
local most = claim.count
-- It looks at up to 256 more missions, for those that cannot be claimed.
local most_looks = most + 256
-- The cost of a claim for its priority.
local COST = {high = 1, normal = 2, low = 8}
local waited, only = ARGV[10] or '', ARGV[11]
-- How long in ms a mission with an unreadable schema waits for a release that reads it.
local unreadable_delay = 60000

local waiting, all, several = {}, 0, 0
local function count_waiting()
  all, several = 0, 0
  for _, priority in ipairs(PRIORITIES) do
    waiting[priority] = redis.call('ZCARD', INDEX_OF[priority])
    all, several = all + waiting[priority], several + math.min(waiting[priority], 1)
  end
  if only then all = waiting[only] or 0 end
end

-- Whether the oldest mission of a priority has waited for `least` ms, or its wait is unknown, for example since the clock went back.
local function has_waited(least)
  for _, priority in ipairs(PRIORITIES) do
    local id = redis.call('ZRANGE', INDEX_OF[priority], 0, 0)[1]
    local since = id and redis.pcall('HGET', entry(id), 'submitted_at')
    local waits = now - (type(since) == 'string' and whole(since) or 0)
    if id and (waits < 0 or waits >= least) then return true end
  end
  return false
end

count_waiting()
if all == 0 or waited ~= '' and not has_waited(tonumber(waited) or 0) then return {claim.time, claims, claim.expired, unreadable, 0} end
local turn = redis.call('HINCRBY', TURNS, 'turn', 1)
local by_age, by_lot = turn % 8 == 0, turn % 32 == 0
local served = 0

-- The number of claims for each priority, out of `count`.
local function shared(count)
  local share = {high = 0, normal = 0, low = 0}
  if several == 1 then
    for priority, some in pairs(waiting) do share[priority] = math.min(count, some) end
    return share
  end
  local found = redis.call('HMGET', TURNS, 'at', unpack(PRIORITIES))
  local at, used = whole(found[1]) or 0, {}
  for i, priority in ipairs(PRIORITIES) do used[priority] = whole(found[i + 1]) or 0 end
  if only then -- it only takes its share: the others get theirs next time
    share[only] = math.min(count, all)
    redis.call('HSET', TURNS, only, math.max(at, used[only]) + share[only] * COST[only])
    return share
  end
  for _ = 1, math.min(count, all) do
    local first, start
    for _, priority in ipairs(PRIORITIES) do
      local begins = math.max(at, used[priority])
      if share[priority] < waiting[priority] and (not first or begins < start) then first, start = priority, begins end
    end
    at, used[first] = start, start + COST[first]
    share[first] = share[first] + 1
  end
  redis.call('HSET', TURNS, 'at', at, 'high', used.high, 'normal', used.normal, 'low', used.low)
  return share
end

local looks = 0
local function claim_all(ids, priority)
  for _, id in ipairs(ids) do
    looks = looks + 1
    local what = is_id(id) and claim_one(claim, id, priority)
    if what == 'claimed' then
      claims[#claims][9] = priority
    elseif what == 'unreadable' then
      unreadable[#unreadable + 1] = id
      retry_at(id, now + unreadable_delay)
    elseif what == 'elsewhere' then
      redis.call('ZREM', INDEX_OF[priority], id)
    end
  end
end

-- A submitter's turn: claim `count` missions from its line, in which some may be gone, and put it behind the others.
local function take_turn(priority, submitter, count)
  local line, goal, last_look = line_of(priority, submitter), #claims + count, looks + count + 64
  repeat
    local ids = redis.pcall('LPOP', line, goal - #claims)
    if type(ids) ~= 'table' then break end
    if ids.err then redis.call('UNLINK', line) end -- not a list, so it contains no mission
    claim_all(ids, priority)
  until ids.err or #claims >= goal or looks >= last_look
  if redis.call('EXISTS', line) == 1 then
    served = served + 1
    redis.call('ZADD', RING .. priority, string.format('%.4f', turn + served / 10000), submitter)
  else
    redis.call('ZREM', RING .. priority, submitter)
  end
end

local function by_turns(priority, goal)
  local submitters = redis.pcall('ZCARD', RING .. priority)
  local each = math.max(1, math.floor((goal - #claims) / (type(submitters) == 'number' and math.max(1, submitters) or 1)))
  for _ = 1, goal - #claims + 64 do
    local submitter = #claims < goal and looks < most_looks and redis.pcall('ZRANGE', RING .. priority, 0, 0)[1]
    if not submitter then return end
    take_turn(priority, submitter, math.min(each, goal - #claims))
  end
end

-- Claim up to `count` missions of a priority. Missions in no line are claimed by age.
local function claim_some(priority, count)
  local index, goal = INDEX_OF[priority], #claims + count
  if not by_age then by_turns(priority, goal) end
  while #claims < goal and looks < most_looks do
    local left = goal - #claims
    local ids = by_lot and redis.call('ZRANDMEMBER', index, left) or redis.call('ZRANGE', index, 0, left - 1)
    if #ids == 0 then return end
    claim_all(ids, priority)
  end
end

while #claims < most and all > 0 and looks < most_looks do
  local share = shared(most - #claims)
  for _, priority in ipairs(PRIORITIES) do claim_some(priority, share[priority]) end
  if #claims < most then count_waiting() end
end
return {claim.time, claims, claim.expired, unreadable, #claims < most and all > 0 and 1 or 0}
