-- Puts papers in the place of the same papers, sealed anew. ARGV: mark of the key ring, format; then of each paper its owner (home and
-- claim), its key, the value that was read, and the new one, whose time and kind must be the same, so that the index is.
-- Returns a byte for each: '1' it was put, '0' another value lies there by now, or none.
--
-- Everything is read before anything is written, as in take.lua.
local state = redis.call('HMGET', KEYS[1], 'ring', 'format')
if state[1] and state[1] ~= ARGV[1] then
  return redis.error_reply('FOREIGNRING made with another key ring')
elseif state[2] and state[2] ~= ARGV[2] then
  return redis.error_reply('FORMAT written by another version')
end
local flags = {}
for nth = 3, #ARGV, 4 do
  local is_same = string.sub(ARGV[nth + 2], 1, 7) == string.sub(ARGV[nth + 3], 1, 7)
    and redis.call('HGET', papers_of(ARGV[nth]), ARGV[nth + 1]) == ARGV[nth + 2]
  flags[#flags + 1] = is_same and '1' or '0'
end
for nth = 1, #flags do
  if flags[nth] == '1' then
    local at = nth * 4 - 1
    redis.call('HSET', papers_of(ARGV[at]), ARGV[at + 1], ARGV[at + 3])
  end
end
return table.concat(flags)
