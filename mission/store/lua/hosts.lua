-- What is known of all hosts in trouble; one that nobody failed to reach for an hour is forgotten.
-- Returns {now, host, 'failures until failed_at', ...}.
local found = redis.call('HGETALL', HOSTS)
local answer = {now}
for i = 1, #found, 2 do
  local failed_at = tonumber(string.match(found[i + 1], '^%d+ %d+ (%d+)$') or 0)
  if failed_at + 3600000 < now then
    redis.call('HDEL', HOSTS, found[i])
  else
    answer[#answer + 1] = found[i]
    answer[#answer + 1] = found[i + 1]
  end
end
return answer
