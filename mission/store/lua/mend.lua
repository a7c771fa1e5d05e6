-- Repair whatever would block all other functions. Set aside keys of another type. Restore broken counters from the data that is there.
-- Move times closer that are further ahead than possible, since the clock ran ahead and was put back.
-- ARGV: how long keys stay set aside in s, the longest lease and the longest wait between attempts in ms, the longest reaper's turn in
-- ms, then each key and its proper type.
-- Returns a pair for each repair: the key, and the type that it had, or a word for the fault.
if #ARGV > 4 + 2 * 64 then return redis.error_reply('ERR mend takes 64 keys at most') end
local stay, longest_lease, longest_wait, turn = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local at_once = 1000 -- members of an index; the next rounds repair the rest
local most_fields = 100 -- of a hash with a counter for each word of a fixed set
local most = 2 ^ 52 -- up to here, every whole number has an exact value
local mended = {}

local function say(key, was) mended[#mended + 1] = {key, was} end

local function set_aside(key, was)
  local aside = ASIDE .. (string.match(key, '^{.-}:(.*)$') or key)
  redis.call('RENAME', key, aside)
  redis.call('EXPIRE', aside, stay)
  say(key, was)
end

-- Like `whole`, but up to a token, which is a time in µs.
local function counted(text)
  local number = whole(text, 16)
  return number and number <= 2 * most and number or nil
end

for i = 5, #ARGV, 2 do
  local type = redis.call('TYPE', ARGV[i]).ok
  if type ~= 'none' and type ~= ARGV[i + 1] then set_aside(ARGV[i], type) end
end

-- The highest possible score in these indexes, at least `newest`. (The last release does not name all of them, so one may still have
-- another type.)
local function newest_of(indexes, newest)
  for _, index in ipairs(indexes) do
    local top = redis.pcall('ZREVRANGEBYSCORE', index, most, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
    newest = math.max(newest, math.floor(tonumber(top[2] or 0)))
  end
  return newest
end

-- Members with an impossible score.
local function beyond(index, newest)
  local bound = '(' .. string.format('%.0f', math.max(newest, most))
  return redis.pcall('ZRANGEBYSCORE', index, bound, '+inf', 'LIMIT', 0, at_once)
end

-- Ages: no member's may be higher than SEQ.
local seq = redis.call('GET', SEQ)
local newest = newest_of({QUEUED, QUEUED_HIGH, QUEUED_LOW}, counted(seq) or 0)
if newest ~= (counted(seq) or 0) or seq and not counted(seq) then
  redis.call('SET', SEQ, string.format('%.0f', newest))
  say(SEQ, 'behind')
end
for _, index in pairs(INDEX_OF) do
  for _, id in ipairs(beyond(index, newest)) do redis.call('ZADD', index, redis.call('INCR', SEQ), id) end
end

-- Turns, in the same way.
local rings = {}
for i, priority in ipairs(PRIORITIES) do rings[i] = RING .. priority end
local taken = redis.pcall('HGET', TURNS, 'turn')
taken = type(taken) == 'string' and counted(taken) or 0
local last = newest_of(rings, taken + 1)
if last > taken + 1 then
  redis.pcall('HSET', TURNS, 'turn', string.format('%.0f', last))
  say(TURNS, 'behind')
end
for _, ring in ipairs(rings) do
  for _, submitter in ipairs(beyond(ring, last)) do redis.call('ZADD', ring, last, submitter) end
end

local head = redis.call('GET', HEAD)
if head and (counted(head) or newest + 1) > newest then
  redis.call('DEL', HEAD)
  say(HEAD, 'ahead')
end
local looked = redis.call('GET', LOOKED)
if looked and looked ~= '-inf' and not counted(string.match(looked, '^%(?(.*)$')) then
  redis.call('DEL', LOOKED)
  say(LOOKED, 'no place')
end
local token = redis.call('GET', TOKEN)
if token and not counted(token) then
  redis.call('DEL', TOKEN) -- the next one comes from the clock: see begin_claim
  say(TOKEN, 'no number')
end

-- A stream whose newest id is beyond any clock eventually takes no more entries.
local told = redis.pcall('XINFO', 'STREAM', OUTCOMES)
for i = 1, #told, 2 do
  if told[i] == 'last-generated-id' and not whole(string.match(told[i + 1], '^%d+')) then set_aside(OUTCOMES, 'too far ahead') end
end

for _, key in ipairs({TURNS, FINISHED, REFUSALS}) do
  local fields = redis.pcall('HLEN', key)
  if type(fields) == 'number' and fields > most_fields then
    set_aside(key, 'too long')
  elseif type(fields) == 'number' then
    local counts = redis.call('HGETALL', key)
    for i = 1, #counts, 2 do
      if not counted(counts[i + 1]) then
        redis.call('HDEL', key, counts[i])
        say(key, 'no number')
      end
    end
  end
end

-- A reaper's turn that ends too late, or never.
local left = redis.call('PTTL', REAPER)
if left == -1 or left > turn then
  redis.call('DEL', REAPER)
  say(REAPER, 'too long')
end
-- Move scores closer that are further ahead than `longest`; return their members.
local function closer(index, longest)
  local beyond = '(' .. string.format('%.0f', now + longest)
  local far = redis.pcall('ZRANGEBYSCORE', index, beyond, '+inf', 'LIMIT', 0, at_once)
  if far.err then return {} end -- a host's group of another type: see due
  for _, member in ipairs(far) do redis.call('ZADD', index, now + longest, member) end
  if #far > 0 then say(index, 'too far ahead') end
  return far
end

closer(LEASES, longest_lease)
closer(DUE, longest_wait)
for _, host in ipairs(closer(DUE_HOSTS, longest_wait)) do closer(group_of(host), longest_wait) end
return mended
