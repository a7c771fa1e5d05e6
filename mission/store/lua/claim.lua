-- Claim up to `count` of these missions, for workers of the last release; this release claims by turns (see next). Skip missions that
-- have ended or have a lease. Hold those that are claimable but exceed `count`: they no longer count as missed, so that the last
-- release's reaper does not consider them lost.
-- ARGV: the numbers that begin a claim, id...
-- Returns {the clock that expiry uses, claims, held ids, expired ids, unreadable ids}.
if #ARGV > 9 + MOST_CLAIMS then return redis.error_reply('ERR claim takes 1024 ids at most') end
local claim = begin_claim(ARGV)
if not claim then return redis.error_reply('ERR claim takes whole numbers before the ids') end
local held, unreadable = {}, {}
local head = tonumber(redis.call('GET', HEAD) or 0)
local moved = false

for i = 10, #ARGV do
  local id = ARGV[i]
  local found = read(id, 'again', 'priority') or {}
  local priority = INDEX_OF[found[2]] and found[2] or 'normal'
  -- An older message may still wake a mission that was published again: that does not show how far the queue has advanced.
  local seq = not found[1] and tonumber(redis.call('ZSCORE', INDEX_OF[priority], id))
  if seq and seq > head then head, moved = seq, true end
  local why = claim_one(claim, id, priority)
  if why == 'unreadable' then
    unreadable[#unreadable + 1] = id
  elseif why == 'full' then
    redis.call('HDEL', entry(id), 'missed_at')
    held[#held + 1] = id
  end
end
if moved then redis.call('SET', HEAD, head) end
return {claim.time, claim.claims, held, claim.expired, unreadable}
