-- Return the outcomes after a reader's position in the stream. In a group, each outcome goes to one reader, which holds it for a while.
-- If that reader does not acknowledge it, it goes to another. The group's position is kept here.
-- ARGV: the group, or '' for a reader without a group. The most outcomes to return. How long a reader holds one, in ms. How long an
-- unused group is kept, in s. The position to begin at: an id, or '$' for missions that end from now on; a group's own position has
-- precedence. How many outcomes were delivered up to there, or '' if none was. Then the ids that the reader acknowledges.
-- Returns {the new position, how many were delivered up to there, how many were dropped before any reader asked, {entry...}}.
local group, most, hold, stay = ARGV[1], math.min(whole(ARGV[2]) or 0, 1000), whole(ARGV[3]), whole(ARGV[4], 10)
if #group > MOST_NAME or not (hold and stay) or #ARGV > 6 + 1000 then return redis.error_reply('ERR follow takes no such group') end

-- The two numbers of a stream id; nil if it is not one.
local function parts(id)
  local ms, seq = string.match(id or '', '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function before(id, other)
  local ms, seq = parts(id)
  local other_ms, other_seq = parts(other)
  return ms < other_ms or ms == other_ms and seq < other_seq
end

-- The value of a group's key; a key of another type is deleted and starts empty.
local function sound(found, key)
  if not found.err then return found end
  redis.call('DEL', key .. group)
  return {}
end

local stream = {}
local facts = redis.pcall('XINFO', 'STREAM', OUTCOMES) -- an error, which has no elements, until a mission has ended
for i = 1, #facts, 2 do stream[facts[i]] = facts[i + 1] end
local newest, added = stream['last-generated-id'] or '0-0', stream['entries-added'] or 0
local dropped, first = added - (stream.length or 0), (stream['first-entry'] or {'0-0'})[1]

local kept = group ~= '' and sound(redis.pcall('HMGET', GROUP .. group, 'place', 'count', 'missed'), GROUP) or {}
local stays = parts(kept[1]) and whole(kept[2]) and whole(kept[3])
local place, count, missed = ARGV[5], whole(ARGV[6]), 0
if stays then place, count, missed = kept[1], whole(kept[2]), whole(kept[3]) end
if not parts(place) or not count and before(newest, place) then
  place, count = newest, added
elseif not count then
  count = dropped -- at least that many
elseif before(newest, place) then
  -- A failover lost the newest outcomes, and others may have received their ids since: rather deliver twice than never.
  place, count = string.format('%.0f-0', math.max(0, parts(newest) - 60000)), dropped
end

local told = {}
if group ~= '' then
  if #ARGV > 6 then redis.pcall('ZREM', HELD .. group, unpack(ARGV, 7)) end
  -- Outcomes that a reader has held for too long. A time further ahead than `hold` means that the clock went back.
  for _, range in ipairs({{'-inf', now}, {string.format('(%.0f', now + hold), '+inf'}}) do
    local late = redis.pcall('ZRANGEBYSCORE', HELD .. group, range[1], range[2], 'LIMIT', 0, 1000) -- more than needed: some may be gone
    for _, id in ipairs(sound(late, HELD)) do
      if #told == most then break end
      local found = redis.pcall('XRANGE', OUTCOMES, id, id)
      if found[1] then
        told[#told + 1] = found[1]
      else
        redis.call('ZREM', HELD .. group, id)
        missed = missed + 1
      end
    end
  end
end
if #told < most then
  local new = redis.pcall('XRANGE', OUTCOMES, '(' .. place, '+', 'COUNT', most - #told)
  if new.err then -- not a valid id, or not a stream
    place, count = '0-0', dropped
    new = redis.pcall('XRANGE', OUTCOMES, '-', '+', 'COUNT', most - #told)
  end
  if #new > 0 then
    if dropped > count and before(place, first) then missed, count = missed + dropped - count, dropped end
    place, count = new[#new][1], count + #new
    for _, one in ipairs(new) do told[#told + 1] = one end
  end
  if #told < most then count = added end -- the stream has no more
end

if group ~= '' then
  if #told > 0 then
    local held = {}
    for i, one in ipairs(told) do held[2 * i - 1], held[2 * i] = now + hold, one[1] end
    redis.call('ZADD', HELD .. group, unpack(held))
  end
  local left = string.format('%.0f', #told > 0 and 0 or missed)
  if not stays or place ~= kept[1] or left ~= kept[3] then
    redis.call('HSET', GROUP .. group, 'place', place, 'count', string.format('%.0f', count), 'missed', left)
  end
  for _, key in ipairs({GROUP, HELD}) do
    if redis.call('TTL', key .. group) < stay / 2 then redis.call('EXPIRE', key .. group, stay) end
  end
end
return {place, count, missed, told}
