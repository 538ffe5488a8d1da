//! What only the Redis store can get wrong: keys of others, damage, clocks.

use super::{MARK, board, change, over_redis, profile, status, who};
use crate::redis::Server;
use liangma::clock::Time;
use liangma::status::Reason;
use liangma::store::ChangeOutcome::{Applied, Unreadable};
use liangma::store::Error;
use liangma::store::redis::partition;
use std::time::Duration;

/// Two residents of one partition, and the keys of that partition.
struct Pair {
    known: u64,
    new: u64,
    meta: String,
    stream: String,
    bucket: String,
}

impl Pair {
    fn find() -> Pair {
        let of = |n| partition::of(who(n).home);
        let new = (1..).find(|n| of(*n) == of(0)).expect("one in sixteen");
        let meta = partition::meta(of(0));
        Pair {
            known: 0,
            new,
            stream: partition::stream(of(0)),
            bucket: format!("{}0:0", &meta[..meta.len() - 1]),
            meta,
        }
    }
}

/// After a failure a writer refuses for a moment without looking.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

/// Changes every value of a bucket by a line of Lua over `value`.
fn rewrite(server: &Server, bucket: &str, line: &str) {
    let script = format!(
        "local all = redis.call('HGETALL', KEYS[1])
        for nth = 1, #all, 2 do
          local value = all[nth + 1]
          redis.call('HSET', KEYS[1], all[nth], {line})
        end
        return #all"
    );
    assert_eq!(server.ask(&["EVAL", &script, "1", bucket]), "2");
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_key_of_the_wrong_type_gives_an_error_and_no_partial_write() {
    over_redis(async |place| {
        let server = place.server();
        let Pair {
            known,
            new,
            meta,
            stream,
            bucket,
        } = Pair::find();
        let store = place.open(64, &board()).await;
        store
            .apply(vec![change(known, profile(known))])
            .await
            .unwrap();
        let before = store.find(who(known)).await.unwrap().unwrap();
        for key in [&stream, &bucket, &meta] {
            assert_eq!(server.ask(&["RENAME", key, "{18}kept"]), "OK");
            server.ask(&["SET", key, "rubbish"]);
            let others = [&stream, &bucket, &meta].map(|key| (key, server.ask(&["TYPE", key])));
            let red = change(known, status(known, Reason::Confirmed, 1, true));
            let changes = vec![change(new, profile(new)), red];
            assert!(store.apply(changes).await.is_err(), "{key}");
            let found = store.find(who(known)).await;
            if key == &stream {
                assert_eq!(found.unwrap().unwrap().word, before.word);
            } else {
                assert!(found.is_err(), "{key}");
            }
            assert_eq!(server.ask(&["GET", key]), "rubbish");
            assert_eq!(
                others,
                [&stream, &bucket, &meta].map(|key| (key, server.ask(&["TYPE", key])))
            );
            server.ask(&["RENAME", "{18}kept", key]);
            assert_eq!(
                store.find(who(known)).await.unwrap().unwrap().word,
                before.word
            );
            assert!(store.find(who(new)).await.unwrap().is_none(), "{key}");
            assert_eq!(server.ask(&["XLEN", &stream]), "1");
            assert_eq!(server.ask(&["HGET", &meta, "seq"]), "1");
            rest().await;
        }
        let red = change(known, status(known, Reason::Confirmed, 1, true));
        assert_eq!(store.apply(vec![red]).await.unwrap(), [Applied]);
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn a_record_that_cannot_be_read_fails_alone_and_stays_as_it_is() {
    over_redis(async |place| {
        let server = place.server();
        let Pair {
            known,
            new,
            stream,
            bucket,
            ..
        } = Pair::find();
        let store = place.open(64, &board()).await;
        let red = |seq| change(known, status(known, Reason::Confirmed, seq, true));
        let rubbish = [
            "'rubbish'",
            "string.sub(value, 1, 8)",
            "string.sub(value, 1, 20)",
            // Within the standing.
            "string.sub(value, 1, #value - 20)",
        ];
        for (nth, line) in rubbish.into_iter().enumerate() {
            server.ask(&["FLUSHALL"]);
            assert_eq!(store.apply(vec![red(1)]).await.unwrap(), [Applied]);
            rewrite(server, &bucket, line);
            let written = server.ask(&["HVALS", &bucket]);
            let changes = vec![red(nth as u64 + 2), change(new, profile(new))];
            let outcomes = store.ingest(changes).await.unwrap();
            assert_eq!(outcomes, [Unreadable, Applied], "{line}");
            assert!(server.ask(&["HVALS", &bucket]).contains(&written), "{line}");
            assert_eq!(server.ask(&["HLEN", &bucket]), "2", "{line}");
            assert_eq!(server.ask(&["XLEN", &stream]), "2", "{line}");
            assert!(store.apply(vec![red(1)]).await.is_err(), "{line}");
            assert!(
                !matches!(store.find(who(known)).await, Ok(Some(_))),
                "{line}"
            );
            rest().await;
        }
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn versions_rise_when_the_servers_clock_goes_back() {
    over_redis(async |place| {
        let Pair { known, .. } = Pair::find();
        let board = board();
        let store = place.open(64, &board).await;
        store
            .apply(vec![change(known, profile(known))])
            .await
            .unwrap();
        // As if another resident's change had been made by a clock that was a day ahead.
        let ahead = Time::now().plus(Duration::from_secs(86_400)).0;
        let meta = partition::meta(partition::of(who(known).home));
        place
            .server()
            .ask(&["HSET", &meta, "top", &ahead.to_string()]);
        for seq in 1..4 {
            let what = status(known, Reason::Confirmed, seq, seq % 2 == 1);
            assert_eq!(
                store.apply(vec![change(known, what)]).await.unwrap(),
                [Applied]
            );
            let found = store.find(who(known)).await.unwrap().unwrap();
            assert_eq!(found.word.version(), ahead + seq);
            assert_eq!(board.word(found.id), Some(found.word));
        }
        store.close().await;
    });
}

#[test]
#[cfg_attr(no_redis_server, ignore = "no redis-server on this machine")]
fn another_ring_or_another_format_is_refused_wherever_it_is_met() {
    over_redis(async |place| {
        let (own, foreign) = (board(), board());
        let foreign = {
            let opened = place.try_open([1; 16], 64).await;
            opened.expect("there is nothing yet").start(&foreign)
        };
        let store = place.open(64, &own).await;
        store.apply(vec![change(1, profile(1))]).await.unwrap();
        let refused = foreign.apply(vec![change(1, profile(2))]).await;
        assert!(matches!(refused, Err(Error::ForeignRing(_))), "{refused:?}");
        assert_eq!(
            store.find(who(1)).await.unwrap().unwrap().record.profile[..],
            1u64.to_be_bytes()
        );
        foreign.close().await;
        store.close().await;
        let meta = partition::meta(partition::of(who(1).home));
        place.server().ask(&["HSET", &meta, "format", "1"]);
        let older = place.try_open(MARK, 64).await;
        assert!(matches!(older, Err(Error::Format(_, 1, 5))));
    });
}
