-- Removes papers of an owner. ARGV: owner (home and claim), then keys. Returns how many there were.
local papers, index = papers_of(ARGV[1]), index_of(ARGV[1])
local count, whole = count_of(ARGV[1])
local keys, members = {}, {}
for nth = 2, #ARGV do
  local value = redis.call('HGET', papers, ARGV[nth])
  if value then
    keys[#keys + 1] = ARGV[nth]
    members[#members + 1] = member_of(string.byte(value, 7), value, ARGV[nth])
  end
end
in_parts('HDEL', papers, keys)
if whole and count - #keys > SMALL then
  in_parts('ZREM', index, members)
else
  index_anew(papers, index, count - #keys)
end
return #keys
