-- Delete everything that the ledger holds of a mission, in any state: its entry, also if set aside, its places in the indexes, and its
-- outcomes. A worker that still has it can no longer commit.
-- ARGV: id. Returns 'forgotten' or 'unknown'.
local id = ARGV[1]
local found = read(id, 'finished_at', 'history') or {}
local times, several = {whole(found[1])}, 0
for at in string.gmatch(found[2] or '', '(%d+):') do
  times[#times + 1] = whole(at)
  several = several + 1
  if several == 100 then break end
end
-- An outcome's id comes from the server's clock, a moment before or after.
for _, at in ipairs(times) do
  local near = {string.format('%.0f', math.max(0, at - 100)), string.format('%.0f', at + 100)}
  for _, told in ipairs(redis.pcall('XRANGE', OUTCOMES, near[1], near[2], 'COUNT', 1000)) do
    if told[2][2] == id then redis.call('XDEL', OUTCOMES, told[1]) end
  end
end
detach(id)
off_indexes(id)
return redis.call('DEL', entry(id), ASIDE .. 'm:' .. id) > 0 and 'forgotten' or 'unknown'
