-- What is known of all hosts in trouble; one that nobody failed to reach for an hour is forgotten.
-- Returns {now, host, the time until which it is paused in ms or 0, ...}.
local found = redis.call('HGETALL', HOSTS)
local answer = {now}
for i = 1, #found, 2 do
  local paused_until, failed_at = string.match(found[i + 1], '^%d+ (%d+) (%d+)$')
  if tonumber(failed_at or 0) + 3600000 < now then
    redis.call('HDEL', HOSTS, found[i])
  else
    answer[#answer + 1] = found[i]
    answer[#answer + 1] = paused_until
  end
end
return answer
