-- give_back: attempts that were handed out and did not reach their worker go back to the front of their queues.
--
-- KEYS      for each attempt what its partition's keys begin with
-- ARGV      1 most history entries, 2.. the queue entry of each
-- returns   how many went back; one whose time-out is not set any more has ended, and is passed over
-- errors    ORCHY: the arguments are wrong; nothing was changed
--- @include "arguments"
--- @include "now"
--- @include "history"
--- @include "queue"
local history_max = whole(1)
local stamp = string.format('%.0f ', (now_ms()))
local given_back = 0
for index = #KEYS, 1, -1 do -- the last one first: so the first one comes to the very front
  local prefix, entry = KEYS[index], ARGV[1 + index]
  local flow_id, action_id, attempt, _, name = parse_entry(entry)
  if flow_id and redis.call('ZREM', prefix .. 't', 't:' .. action_id .. ':' .. attempt .. ':' .. flow_id) == 1 then
    if redis.call('LPUSH', prefix .. 'q:' .. name, entry) == 1 then
      redis.call('SADD', prefix .. 'ready', name)
    end
    local history = prefix .. 'h:' .. flow_id
    local line = stamp .. '["B",' .. action_id .. ',' .. attempt .. ']'
    cap_history(history, redis.call('RPUSH', history, line), history_max)
    given_back = given_back + 1
  end
end
return given_back
