-- ARGV[position] as a number. Read all of them before the first write: what raises later leaves half a change behind.
local function whole(position)
  local number = tonumber(ARGV[position])
  -- NaN fails the last test.
  if not number or number < 0 or number > 9007199254740992 or number % 1 ~= 0 then
    error({err = 'ORCHY argument ' .. position .. ' is not a whole number: ' .. tostring(ARGV[position])})
  end
  return number
end
