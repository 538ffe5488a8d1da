//! Refusals in HTTP: status code, sentence in each language, problem document, and Retry-After, which is spread at random here.

use crate::language::Language;
use crate::refusal::Refusal;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use std::cell::Cell;
use std::io::Write;
use std::sync::LazyLock;
use std::time::Duration;

/// Returns the randomised time after which a retry makes sense; None if it never does.
pub fn wait(refusal: Refusal) -> Option<Duration> {
    refusal.retry_after().map(spread)
}

/// Returns the problem document of a refusal, for answers without a node.
pub fn problem_text(refusal: Refusal, wait: Duration) -> String {
    String::from_utf8_lossy(&problem(refusal, Language::Hans, Some(wait))).into_owned()
}

/// Returns the status code of a refusal.
pub fn status_of(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::Busy
        | Refusal::UpstreamBusy
        | Refusal::Warming
        | Refusal::Draining
        | Refusal::IssuerUnreachable => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Unauthorized | Refusal::SessionExpired => StatusCode::UNAUTHORIZED,
        Refusal::NotPermitted => StatusCode::FORBIDDEN,
        Refusal::Malformed => StatusCode::BAD_REQUEST,
        Refusal::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
        Refusal::NotFound => StatusCode::NOT_FOUND,
        Refusal::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::CodeInvalid
        | Refusal::CodeExpired
        | Refusal::OfflineRegistration
        | Refusal::GrantRevoked
        | Refusal::GrantExpired
        | Refusal::CodeRevoked
        | Refusal::IssuerUnknown
        | Refusal::SignatureInvalid
        | Refusal::IssuerNotEntitled
        | Refusal::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::RecordUnchangeable => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::NotOnRoster | Refusal::NoConsent => StatusCode::FORBIDDEN,
        Refusal::LimitReached => StatusCode::CONFLICT,
        Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Returns the sentence for people.
pub fn title(refusal: Refusal, language: Language) -> &'static str {
    use Language::*;
    match (refusal, language) {
        (Refusal::Busy, Hans) => "系统繁忙，当前查询人数过多，请稍后再试",
        (Refusal::Busy, Hant) => "系統繁忙，當前查詢人數過多，請稍後再試",
        (Refusal::Busy, En) => {
            "The system is busy, too many people are querying, please try again later"
        }
        (Refusal::UpstreamBusy, Hans) => "系统繁忙，暂时无法查询，请稍后再试",
        (Refusal::UpstreamBusy, Hant) => "系統繁忙，暫時無法查詢，請稍後再試",
        (Refusal::UpstreamBusy, En) => {
            "The system is busy and cannot look this up now. Please try again later"
        }
        (Refusal::Warming, Hans) => "服务正在启动，请稍后再试",
        (Refusal::Warming, Hant) => "服務正在啟動，請稍後再試",
        (Refusal::Warming, En) => "The service is starting. Please try again later",
        (Refusal::Draining, Hans) => "服务正在切换，请稍后再试",
        (Refusal::Draining, Hant) => "服務正在切換，請稍後再試",
        (Refusal::Draining, En) => "This server is shutting down. Please try again",
        (Refusal::RateLimited, Hans) => "操作过于频繁，请稍后再试",
        (Refusal::RateLimited, Hant) => "操作過於頻繁，請稍後再試",
        (Refusal::RateLimited, En) => "Too many requests. Please try again later",
        (Refusal::Unauthorized, Hans) => "未登录或凭证无效，请重新登录或更换凭证",
        (Refusal::Unauthorized, Hant) => "未登入或憑證無效，請重新登入或更換憑證",
        (Refusal::Unauthorized, En) => {
            "No valid credentials. Please log in again or renew the token"
        }
        (Refusal::SessionExpired, Hans) => "登录已过期，请重新登录",
        (Refusal::SessionExpired, Hant) => "登入已過期，請重新登入",
        (Refusal::SessionExpired, En) => "The session has expired. Please log in again",
        (Refusal::NotPermitted, Hans) => "该凭证无权进行此操作",
        (Refusal::NotPermitted, Hant) => "該憑證無權進行此操作",
        (Refusal::NotPermitted, En) => "These credentials do not permit this",
        (Refusal::Malformed, Hans) => "请求格式有误",
        (Refusal::Malformed, Hant) => "請求格式有誤",
        (Refusal::Malformed, En) => "The request is malformed",
        (Refusal::UnsupportedMediaType, Hans) => "不支持该内容类型或编码",
        (Refusal::UnsupportedMediaType, Hant) => "不支援該內容類型或編碼",
        (Refusal::UnsupportedMediaType, En) => "This media type or content coding is not supported",
        (Refusal::TooLarge, Hans) => "请求内容过大",
        (Refusal::TooLarge, Hant) => "請求內容過大",
        (Refusal::TooLarge, En) => "The request is too large",
        (Refusal::ExpectationFailed, Hans) => "不支持请求标头 Expect 的这一要求",
        (Refusal::ExpectationFailed, Hant) => "不支援請求標頭 Expect 的這一要求",
        (Refusal::ExpectationFailed, En) => {
            "The Expect header asks for something that is not supported"
        }
        (Refusal::NotFound, Hans) => "没有找到该地址或记录",
        (Refusal::NotFound, Hant) => "沒有找到該地址或記錄",
        (Refusal::NotFound, En) => "Nothing was found: no such path, or nothing on record",
        (Refusal::MethodNotAllowed, Hans) => "该地址不支持此方法",
        (Refusal::MethodNotAllowed, Hant) => "該地址不支援此方法",
        (Refusal::MethodNotAllowed, En) => "This path does not support this method",
        (Refusal::CodeInvalid, Hans) => "健康码无效，请对方重新亮码",
        (Refusal::CodeInvalid, Hant) => "健康碼無效，請對方重新亮碼",
        (Refusal::CodeInvalid, En) => "The code is not valid here. Ask for a fresh one",
        (Refusal::CodeExpired, Hans) => "该码不在有效期内，请对方出示有效的码",
        (Refusal::CodeExpired, Hant) => "該碼不在有效期內，請對方出示有效的碼",
        (Refusal::CodeExpired, En) => "The code is not valid at this time. Ask for a current one",
        (Refusal::OfflineRegistration, Hans) => {
            "该证件类型暂不支持线上申领，请到现场由工作人员登记"
        }
        (Refusal::OfflineRegistration, Hant) => {
            "該證件類型暫不支援線上申領，請到現場由工作人員登記"
        }
        (Refusal::OfflineRegistration, En) => {
            "This document gets no code online. Please register with staff"
        }
        (Refusal::RecordUnchangeable, Hans) => {
            "记录不可修改或删除；如填报有误，请重新申报，以最新一次为准，历史记录保留"
        }
        (Refusal::RecordUnchangeable, Hant) => {
            "記錄不可修改或刪除；如填報有誤，請重新申報，以最新一次為準，歷史記錄保留"
        }
        (Refusal::RecordUnchangeable, En) => {
            "Records cannot be changed or deleted; if one is wrong, declare again: the newest counts and the history stays"
        }
        (Refusal::GrantRevoked, Hans) => "授权已撤回，请对方重新授权或亮码",
        (Refusal::GrantRevoked, Hant) => "授權已撤回，請對方重新授權或亮碼",
        (Refusal::GrantRevoked, En) => {
            "The grant was revoked. Ask for a new one or for a fresh code"
        }
        (Refusal::GrantExpired, Hans) => "授权已到期，请对方重新授权或亮码",
        (Refusal::GrantExpired, Hant) => "授權已到期，請對方重新授權或亮碼",
        (Refusal::GrantExpired, En) => {
            "The grant has expired. Ask for a new one or for a fresh code"
        }
        (Refusal::Internal, Hans) => "系统内部故障，请联系管理单位",
        (Refusal::Internal, Hant) => "系統內部故障，請聯繫管理單位",
        (Refusal::Internal, En) => "An internal fault occurred. Report it to the operator",
        (Refusal::CodeRevoked, Hans) => "该码已作废，请对方亮码或重新领取",
        (Refusal::CodeRevoked, Hant) => "該碼已作廢，請對方亮碼或重新領取",
        (Refusal::CodeRevoked, En) => {
            "The code was revoked. Ask for a live code or a newly issued one"
        }
        (Refusal::IssuerUnknown, Hans) => "本处不认可该码的签发机构，请查验其他证明",
        (Refusal::IssuerUnknown, Hant) => "本處不認可該碼的簽發機構，請查驗其他證明",
        (Refusal::IssuerUnknown, En) => {
            "The issuer of this code is not recognised here. Ask for another document"
        }
        (Refusal::SignatureInvalid, Hans) => "该码的签名无效，可能系伪造",
        (Refusal::SignatureInvalid, Hant) => "該碼的簽名無效，可能係偽造",
        (Refusal::SignatureInvalid, En) => {
            "The signature of this code is invalid. It may be forged"
        }
        (Refusal::IssuerNotEntitled, Hans) => "该签发机构无权出具此类证明",
        (Refusal::IssuerNotEntitled, Hant) => "該簽發機構無權出具此類證明",
        (Refusal::IssuerNotEntitled, En) => {
            "The issuer of this code may not issue this kind of certificate"
        }
        (Refusal::IssuerUnreachable, Hans) => {
            "暂时无法联系该码的签发机构，请稍后再扫，或请对方出示离线码"
        }
        (Refusal::IssuerUnreachable, Hant) => {
            "暫時無法聯繫該碼的簽發機構，請稍後再掃，或請對方出示離線碼"
        }
        (Refusal::IssuerUnreachable, En) => {
            "The issuer of this code does not answer. Scan again later or ask for an offline code"
        }
        (Refusal::NotOnRoster, Hans) => "该人员未授权本单位，请先由本人授权",
        (Refusal::NotOnRoster, Hant) => "該人員未授權本單位，請先由本人授權",
        (Refusal::NotOnRoster, En) => {
            "This person has given your organisation no grant. Ask the person for one"
        }
        (Refusal::NoConsent, Hans) => "只能为已添加的家庭成员申报，姓名须一致",
        (Refusal::NoConsent, Hant) => "只能為已添加的家庭成員申報，姓名須一致",
        (Refusal::NoConsent, En) => {
            "You can declare only for family members whom you have added, by their exact name"
        }
        (Refusal::LimitReached, Hans) => "已达上限：请先移除一项、等待已提交的办结，或次日再试",
        (Refusal::LimitReached, Hant) => "已達上限：請先移除一項、等待已提交的辦結，或次日再試",
        (Refusal::LimitReached, En) => {
            "The limit is reached: remove an entry, wait for the answer to what is open, or try again tomorrow"
        }
        (Refusal::IdempotencyMismatch, Hans) => "该幂等键已用于另一请求，请更换后重试",
        (Refusal::IdempotencyMismatch, Hant) => "該冪等鍵已用於另一請求，請更換後重試",
        (Refusal::IdempotencyMismatch, En) => {
            "This idempotency key was used for another request. Use a new key"
        }
    }
}

pub(super) fn problem(refusal: Refusal, language: Language, retry: Option<Duration>) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(b"{\"type\":\"urn:liangma:");
    out.put_slice(refusal.code().as_bytes());
    out.put_slice(b"\",\"title\":\"");
    out.put_slice(title(refusal, language).as_bytes());
    out.put_slice(b"\",\"status\":");
    put_number(&mut out, u64::from(status_of(refusal).as_u16()));
    out.put_slice(b",\"code\":\"");
    out.put_slice(refusal.code().as_bytes());
    out.put_slice(b"\"");
    if let Some(retry) = retry {
        out.put_slice(b",\"retry_after_ms\":");
        put_number(&mut out, retry.as_millis() as u64);
    }
    out.put_slice(b"}");
    out.freeze()
}

/// Returns half to one and a half times `retry`, so that refused clients do not return together. The bounds of
/// `admission::retry_after` are those of `retry`: a client of a full door reads 1 to 180 seconds.
pub(super) fn spread(retry: Duration) -> Duration {
    thread_local! {
        static DICE: Cell<u64> = Cell::new(crate::clock::Time::now().0 | 1);
    }
    // xorshift64: predicting it gains nothing.
    let roll = DICE.with(|rng| {
        let mut x = rng.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        rng.set(x);
        x
    });
    retry / 2 + retry * (roll >> 48) as u32 / 65_536
}

/// Returns the time in seconds, rounded up, for a header.
pub(super) fn whole_seconds(retry: Duration) -> u64 {
    retry.as_millis().div_ceil(1000) as u64
}

/// Returns the whole response of a permanent refusal, for a connection whose head could not be read.
pub fn ready_made(refusal: Refusal, language: Language) -> &'static [u8] {
    type Made = LazyLock<Vec<Vec<u8>>>;
    fn all(refusal: Refusal) -> Vec<Vec<u8>> {
        let languages = Language::ALL.into_iter();
        languages
            .map(|language| whole(refusal, language, None))
            .collect()
    }
    static MALFORMED: Made = LazyLock::new(|| all(Refusal::Malformed));
    static TOO_LARGE: Made = LazyLock::new(|| all(Refusal::TooLarge));
    let made = match refusal {
        Refusal::TooLarge => &TOO_LARGE,
        // hyper itself refuses a head only if it cannot read it.
        _ => &MALFORMED,
    };
    &made[language as usize]
}

/// Returns the whole response of a refusal for a connection that is not served; `retry` is randomised here.
pub fn whole(refusal: Refusal, language: Language, retry: Option<Duration>) -> Vec<u8> {
    let retry = retry.map(spread);
    let body = problem(refusal, language, retry);
    let mut bytes = Vec::with_capacity(256 + body.len());
    let head = format_args!(
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n\
         content-language: {}\r\ncontent-length: {}\r\nconnection: close\r\n",
        status_of(refusal),
        language.tag(),
        body.len(),
    );
    let _ = bytes.write_fmt(head); // a Vec takes everything
    if let Some(retry) = retry {
        let _ = write!(bytes, "retry-after: {}\r\n", whole_seconds(retry));
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body);
    bytes
}

/// Appends a number in decimal.
#[inline]
pub(super) fn put_number(out: &mut BytesMut, number: u64) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_title_and_those_that_pass_say_when() {
        for refusal in Refusal::ALL {
            for language in Language::ALL {
                let status = status_of(refusal).as_u16();
                let retry = wait(refusal);
                assert_eq!(retry.is_some(), matches!(status, 503 | 429), "{refusal:?}");
                let body: serde_json::Value =
                    serde_json::from_slice(&problem(refusal, language, retry)).unwrap();
                assert_eq!(body["type"], format!("urn:liangma:{}", refusal.code()));
                assert_eq!(body["status"], status);
                assert_eq!(body["title"], title(refusal, language));
            }
        }
    }

    #[test]
    fn retries_are_spread_over_a_factor_of_three() {
        let all: Vec<Duration> = (0..1000).map(|_| spread(Duration::from_secs(4))).collect();
        assert!(all.iter().all(|d| (2..6).contains(&d.as_secs())));
        assert!(all.iter().min().unwrap().as_millis() < 2_400);
        assert!(all.iter().max().unwrap().as_millis() > 5_600);
        assert_eq!(whole_seconds(Duration::from_millis(7_300)), 8);
    }
}
