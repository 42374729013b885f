-- claim: hands out attempts of one action. It reads and writes nothing of a flow: all that it needs is in `w`.
--
-- KEYS      of each partition its anchor, timers, work, ready, and its queue of the action
-- ARGV      1 action, 2 most to hand out, 3 worker as a JSON string, 4 most entries to drop or park on the way
-- returns   {for each attempt: number of the partition, as in `w`, timeout in ms, body, what `w` says now}
--
-- An entry counts if `w` says that its attempt is queued ('q'). Without a field there the attempt is over, or of
-- another incarnation of the flow; with an 'H' it has been handed out. One of a paused flow (`p:<flow>`) is set aside
-- in `w` ('d') until the flow is resumed. What is written after the letter comes into the log with the next commit.
-- A flow has one timer, which only becomes earlier here (LT): its owner looks what is due.
--- @include "now"
local action, limit, worker, passed_over_max = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local now, soonest = now_ms()
local tail = ',' .. worker .. ',' .. string.format('%.0f', now) .. '],'
local taken, count, passed_over = {}, 0, 0
for first = 1, #KEYS, 5 do
  if count >= limit or passed_over >= passed_over_max then
    break
  end
  local timers, work, queue = KEYS[first + 1], KEYS[first + 2], KEYS[first + 4]
  local due, marks = {}, {}
  local popped = redis.call('LPOP', queue, math.min(limit - count, passed_over_max - passed_over)) or {}
  while #popped > 0 do
    local asked = {}
    for i, entry in ipairs(popped) do
      local attempt = string.match(entry, '^[^\n]*')
      asked[2 * i - 1] = attempt
      asked[2 * i] = 'p:' .. string.match(attempt, '[^:]*$')
    end
    local found = redis.call('HMGET', work, unpack(asked))
    local handed = {}
    for i, entry in ipairs(popped) do
      local attempt, mark, paused = asked[2 * i - 1], found[2 * i - 1], found[2 * i]
      if not mark or string.byte(mark) ~= 113 or handed[attempt] then
        passed_over = passed_over + 1
      elseif paused then
        marks[#marks + 1] = attempt
        marks[#marks + 1] = 'd' .. string.sub(mark, 2) .. '\n' .. entry
        passed_over = passed_over + 1
      else
        handed[attempt] = true
        local action_id, number, flow = string.match(attempt, '^(%-?%d+):(%d+):[^:]*:(.*)$')
        local timeout, body = string.match(entry, '^[^\n]*\n(%d+)\n(.*)$')
        due[#due + 1] = soonest + timeout
        due[#due + 1] = flow
        local says = 'H' .. string.sub(mark, 2) .. '["H",' .. action_id .. ',' .. number .. ',' .. timeout .. tail
        marks[#marks + 1] = attempt
        marks[#marks + 1] = says
        taken[#taken + 1] = {(first + 4) / 5, attempt, timeout, body, says}
        count = count + 1
      end
    end
    if #marks > 0 then
      redis.call('HSET', work, unpack(marks))
      marks = {}
    end
    if count >= limit or passed_over >= passed_over_max then
      break
    end
    popped = redis.call('LPOP', queue, math.min(limit - count, passed_over_max - passed_over)) or {}
  end
  if #due > 0 then
    redis.call('ZADD', timers, 'LT', unpack(due))
  end
  if redis.call('EXISTS', queue) == 0 then
    redis.call('SREM', KEYS[first + 3], action)
  end
end
return taken
