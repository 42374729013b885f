-- cancel_timers: removes timers that mean nothing any more, as a commit does.
--
-- KEYS[1]   what the partition's keys begin with
-- ARGV      members; a timeout takes the lease of its attempt along
-- returns   nothing
--- @include "timers"
cancel_timers(KEYS[1], ARGV, 1, #ARGV)
