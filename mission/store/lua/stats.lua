-- Count the missions in each state, and find out since when the oldest unfinished one waits.
-- ARGV: 'priorities' to count them by priority too; the last release does not send it.
-- Returns {now, queued, running, retrying, dead, succeeded, failed, cancelled, the oldest submission time in ms or 0}, then the
-- queued missions of high, normal and low priority.
-- It finds the time by counting: reading the oldest mission would need a right that lists all ids.
local oldest = 0
if redis.call('ZCARD', OPEN) > 0 then
  local low, high = 0, now
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('ZCOUNT', OPEN, '-inf', middle) > 0 then high = middle else low = middle + 1 end
  end
  oldest = low
end
local finished = redis.call('HMGET', FINISHED, 'succeeded', 'failed', 'cancelled')
-- Unfinished missions that neither wait nor run are due for a retry: they are stored with their hosts.
local queued, running, of = 0, redis.call('ZCARD', LEASES), {}
for i, priority in ipairs(PRIORITIES) do
  of[i] = redis.call('ZCARD', INDEX_OF[priority])
  queued = queued + of[i]
end
return {
  now, queued, running, math.max(0, redis.call('ZCARD', OPEN) - queued - running), redis.call('ZCARD', DEAD),
  finished[1] or 0, finished[2] or 0, finished[3] or 0, oldest, unpack(ARGV[1] == 'priorities' and of or {})
}
