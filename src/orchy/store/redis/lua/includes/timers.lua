-- Removes the timers members[first .. last]; a timeout ('t') takes the lease of its attempt ('l') along.
local function cancel_timers(prefix, members, first, last)
  local removed = {}
  for i = first, last do
    removed[#removed + 1] = members[i]
    if string.byte(members[i]) == 116 then
      removed[#removed + 1] = 'l' .. string.sub(members[i], 2)
    end
  end
  for start = 1, #removed, 1000 do
    redis.call('ZREM', prefix .. 't', unpack(removed, start, math.min(start + 999, #removed)))
  end
end
