-- Tell how missions ended: what comes behind a reader's place in the stream. Of a group each outcome goes to one reader, who has it in
-- hand for a while; then, if he has not said that he has dealt with it, to another. The group's place is kept here.
-- ARGV: the group, or '' for a reader by himself; how many at most; for how long one is in a reader's hands in ms; how long a group stays
-- that nobody asks for in s; where to begin, of a group only where no place is kept: an id, or '$' for what ends from now on; how many had
-- been told by there, or '' where nothing was told before; then the ids of what the reader has dealt with.
-- Returns {the place after that, how many have been told by there, how many were dropped before anybody asked for them, {entry...}}.
local group, most, hold, stay = ARGV[1], math.min(whole(ARGV[2]) or 0, 1000), whole(ARGV[3]), whole(ARGV[4], 10)
if #group > MOST_NAME or not (hold and stay) or #ARGV > 6 + 1000 then return redis.error_reply('ERR follow takes no such group') end

-- The two numbers of an id; nil where it is none.
local function parts(id)
  local ms, seq = string.match(id or '', '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end

local function before(id, other)
  local ms, seq = parts(id)
  local other_ms, other_seq = parts(other)
  return ms < other_ms or ms == other_ms and seq < other_seq
end

-- What a key of the group holds; where somebody put another type there, it begins anew.
local function sound(found, key)
  if not found.err then return found end
  redis.call('DEL', key .. group)
  return {}
end

local stream = {}
local facts = redis.pcall('XINFO', 'STREAM', OUTCOMES) -- an error, without parts, as long as no mission has ended
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
  count = dropped -- so many at least
elseif before(newest, place) then
  -- A failover has lost the newest ones, and ids like theirs may have been given since: rather twice than never.
  place, count = string.format('%.0f-0', math.max(0, parts(newest) - 60000)), dropped
end

local told = {}
if group ~= '' then
  if #ARGV > 6 then redis.pcall('ZREM', HELD .. group, unpack(ARGV, 7)) end
  -- What somebody has had for too long. Further ahead than that is none, unless the clock ran back.
  for _, range in ipairs({{'-inf', now}, {string.format('(%.0f', now + hold), '+inf'}}) do
    local late = redis.pcall('ZRANGEBYSCORE', HELD .. group, range[1], range[2], 'LIMIT', 0, 1000) -- more than asked for: what is none goes
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
  if new.err then -- a place that no id may have, or no stream
    place, count = '0-0', dropped
    new = redis.pcall('XRANGE', OUTCOMES, '-', '+', 'COUNT', most - #told)
  end
  if #new > 0 then
    if dropped > count and before(place, first) then missed, count = missed + dropped - count, dropped end
    place, count = new[#new][1], count + #new
    for _, one in ipairs(new) do told[#told + 1] = one end
  end
  if #told < most then count = added end -- there is no more
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
