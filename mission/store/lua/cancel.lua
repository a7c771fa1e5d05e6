-- End a mission that waits for a worker or a retry.
-- ARGV: id, ledger TTL in s. Returns 'cancelled' (also if it already was), the state that it is in instead, or 'unknown'.
local id = ARGV[1]
if redis.call('TYPE', entry(id)).ok ~= 'hash' then return 'unknown' end
local state = redis.call('HGET', entry(id), 'state')
if state == 'queued' or state == 'retrying' then
  finish(id, 'cancelled', 'cancelled', '', ARGV[2])
  return 'cancelled'
end
return state or 'unknown'
