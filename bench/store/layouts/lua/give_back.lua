-- give_back: attempts that a claim took and that did not reach their worker go back to the front of their queues.
--
-- KEYS      of each attempt its partition's anchor, work, ready, and its queue
-- ARGV      of each attempt as in `w`, action, what `w` says since the claim, queue entry
-- returns   how many went back. Passed over are those of which `w` says something else now
--
-- The flow's timer stays: it fires for nothing. In a pause the next claim sets the entry aside.
--- @include "now"
local stamp = string.format('%.0f', (now_ms()))
local given_back = 0
for number = #ARGV / 4, 1, -1 do -- so that the first one ends up in front
  local key, at = 4 * number - 3, 4 * number - 3
  local work = KEYS[key + 1]
  local attempt, action, seen, entry = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if redis.call('HGET', work, attempt) == seen then
    local action_id, count = string.match(attempt, '^(%-?%d+):(%d+):')
    local fragment = '["B",' .. action_id .. ',' .. count .. ',' .. stamp .. '],'
    redis.call('HSET', work, attempt, 'q' .. string.sub(seen, 2) .. fragment)
    redis.call('LPUSH', KEYS[key + 3], entry)
    redis.call('SADD', KEYS[key + 2], action)
    given_back = given_back + 1
  end
end
return given_back
