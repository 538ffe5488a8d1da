// What the pages that show or check codes say alike, and the issuer's name, which stands here alone.

learn({
  "zh-Hans": {
    issuer: "健康码 · 广东",
    green: "绿码", yellow: "黄码", red: "红码", unknown: "未登记", login: "请重新登录",
    as_of: (time) => time + " 更新", again: (n) => n + " 秒后自动重试", again_now: "立即重试", back: "返回",
    real_name: "已实名核验", real_person: "已实人核验", languages: "语言", loading_part: "正在加载…",
    tail: (tail) => "尾号 " + tail, beijing_time: "（北京时间）",
    busy_for: (n) => "系统繁忙，当前查询人数过多，请 " + n + " 秒后再试", wait: (n) => "（请 " + n + " 秒后再试）",
    away: "暂时连不上服务", close: "关闭",
  },
  "zh-Hant": {
    issuer: "健康碼 · 廣東",
    green: "綠碼", yellow: "黃碼", red: "紅碼", unknown: "未登記", login: "請重新登入",
    as_of: (time) => time + " 更新", again: (n) => n + " 秒後自動重試", again_now: "立即重試", back: "返回",
    real_name: "已實名核驗", real_person: "已實人核驗", languages: "語言", loading_part: "正在載入…",
    tail: (tail) => "尾號 " + tail, beijing_time: "（北京時間）",
    busy_for: (n) => "系統繁忙，當前查詢人數過多，請 " + n + " 秒後再試", wait: (n) => "（請 " + n + " 秒後再試）",
    away: "暫時連不上服務", close: "關閉",
  },
  en: {
    issuer: "Health code · Guangdong",
    green: "GREEN", yellow: "YELLOW", red: "RED", unknown: "NOT ON RECORD", login: "Please log in again",
    as_of: (time) => "Updated " + time, again: (n) => "trying again in " + n + " s", again_now: "Try again now", back: "Back",
    real_name: "Identity verified (name only)", real_person: "Identity verified (face)", languages: "Language", loading_part: "Loading…",
    tail: (tail) => "ending in " + tail, beijing_time: "(Beijing time)",
    busy_for: (n) => "The system is busy, too many people are querying. Please try again in " + n + " s", wait: (n) => " (try again in " + n + " s)",
    away: "The service cannot be reached", close: "Close",
  },
});
