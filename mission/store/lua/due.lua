-- Take due missions from each host in turn, first from the host whose turn came the longest ago; then that host goes to the back.
-- Take none from a paused host. After the pause, take one as a probe, and the others once it has reached the host.
-- ARGV: how many at most, up to 1000.
-- Returns {ids to publish, 1 if there are more}.
local most = math.min(tonumber(ARGV[1]) or 0, 1000)
-- If a published probe has not reached the host by then, another one follows.
local patience = 5000
local ids, more = {}, false

-- Missions from an earlier release, or put there by hand, have a turn too.
if redis.call('EXISTS', DUE) == 1 then redis.call('ZADD', DUE_HOSTS, 'NX', now, '') end

local function take(host, count)
  local found = redis.pcall('ZRANGEBYSCORE', group_of(host), '-inf', now, 'LIMIT', 0, count)
  if found.err then return end
  for _, id in ipairs(found) do
    redis.call('ZREM', group_of(host), id)
    if state_of(id) == 'retrying' then
      enqueue_again(id)
      ids[#ids + 1] = id
    end
  end
end

-- Include turns of this millisecond: a second call within it must not report that there are no more.
local waiting = redis.call('ZCOUNT', DUE_HOSTS, '-inf', now + 1)
local share = math.max(1, math.floor(most / math.max(1, waiting)))
for turn, host in ipairs(redis.call('ZRANGEBYSCORE', DUE_HOSTS, '-inf', now + 1, 'LIMIT', 0, most)) do
  local breaker = host ~= '' and breaker_of(host) or nil
  local next_turn
  if breaker and breaker.paused_until > now then
    next_turn = breaker.paused_until
  elseif breaker and breaker.paused_until > 0 then
    if breaker.probed_at + patience < now then take(host, 1) end
    next_turn = now + patience
  else
    take(host, share)
  end
  local group = redis.pcall('ZRANGE', group_of(host), 0, 0, 'WITHSCORES')
  if group.err then redis.call('DEL', group_of(host)) end -- not a sorted set, so it contains no mission
  local first = group[2]
  if not first then
    redis.call('ZREM', DUE_HOSTS, host)
  else
    if not next_turn then
      next_turn = math.max(tonumber(first), now + turn / 1000)
      more = more or tonumber(first) <= now
    end
    redis.call('ZADD', DUE_HOSTS, string.format('%.3f', next_turn), host)
  end
end
return {ids, (more or waiting > most) and 1 or 0}
