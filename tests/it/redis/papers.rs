//! Papers in Redis that somebody changes behind the nodes.

use super::Server;

/// Puts another kind in the place of the kind of papers, of at most so many. Returns how many there were. The byte of the kind is the
/// seventh.
#[track_caller]
pub fn edit_kind(server: &Server, kind: u8, other: u8, most: u32) -> u32 {
    let script = "local edited = 0
        for _, key in ipairs(redis.call('KEYS', 'lm:*:p*')) do
          local all = redis.call('HGETALL', key)
          for nth = 1, #all, 2 do
            local value = all[nth + 1]
            if edited < tonumber(ARGV[3]) and string.byte(value, 7) == tonumber(ARGV[1]) then
              value = string.sub(value, 1, 6) .. string.char(tonumber(ARGV[2])) .. string.sub(value, 8)
              redis.call('HSET', key, all[nth], value)
              edited = edited + 1
            end
          end
        end
        return edited";
    let [kind, other, most] = [kind.to_string(), other.to_string(), most.to_string()];
    let edited = server.ask(&["EVAL", script, "0", &kind, &other, &most]);
    edited.parse().expect("a number")
}
