-- Append an audit entry, if the chain's head is still the one that the caller built it upon.
-- KEYS: the stream. ARGV: the head's hash, the entry's canonical JSON, its hash, how long entries stay in ms.
-- Returns {'ok'}, or {'moved'} with the fields of the head that is there now.
-- Trimming goes with XADD, so that no login needs XTRIM; entries-added and last-generated-id keep counting.
local head = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local hash = string.rep('0', 64)
if head then
  hash = ''
  for i = 1, #head[2], 2 do
    if head[2][i] == 'h' then hash = head[2][i + 1] end
  end
end
if hash ~= ARGV[1] then return {'moved', head and head[2] or {}} end
local oldest = now - ARGV[4]
redis.call('XADD', KEYS[1], 'MINID', '=', string.format('%.0f', math.max(0, oldest)), '*', 'e', ARGV[2], 'h', ARGV[3])
return {'ok'}
