-- Give a mission back for a retry after a delay, or end it as dead if its attempts are used up.
-- ARGV: id, token, reason, delay in ms, 1 if it used up an attempt, max attempts, ledger TTL in s, the host that it waits for or '',
-- the allowlist entry of its host or ''.
-- Returns 'retrying' or 'dead' (also if this release was already done and only its answer was lost), or 'stale'.
local id, token, reason = ARGV[1], ARGV[2], ARGV[3]
local time = now + tonumber(ARGV[4])
local found = read(id, 'state', 'token', 'attempts', 'reason', 'put_off')
if not found or found[2] ~= token then return 'stale' end
if (found[1] == 'retrying' or found[1] == 'dead') and (found[4] == reason or found[5] == reason) then return found[1] end
if found[1] ~= 'running' then return 'stale' end
local attempts = whole(found[3])
if not attempts then
  put_aside(id, 'attempts')
  return 'stale'
end
local counts = ARGV[5] ~= '0'
if (ARGV[9] or '') ~= '' then redis.call('HSET', entry(id), 'allowed_by', ARGV[9]) end
if counts and attempts >= tonumber(ARGV[6]) then
  finish(id, 'dead', reason, '', ARGV[7])
  return 'dead'
end
retry_at(id, time, ARGV[8])
-- A delay that is not the mission's own failure must not hide why its last attempt failed.
redis.call('HSET', entry(id), counts and 'reason' or 'put_off', reason)
if counts then remember(id, reason) else redis.call('HINCRBY', entry(id), 'attempts', -1) end
return 'retrying'
