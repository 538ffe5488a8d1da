// What the resident's page and the gate's say alike.

learn({
  "zh-Hans": {
    green: "绿码", yellow: "黄码", red: "红码", unknown: "未登记", login: "请重新登录",
    as_of: (time) => "状态核对至 " + time, again: (n) => n + " 秒后自动重试",
    real_name: "实名", real_person: "实人", languages: "语言",
  },
  "zh-Hant": {
    green: "綠碼", yellow: "黃碼", red: "紅碼", unknown: "未登記", login: "請重新登入",
    as_of: (time) => "狀態核對至 " + time, again: (n) => n + " 秒後自動重試",
    real_name: "實名", real_person: "實人", languages: "語言",
  },
  en: {
    green: "GREEN", yellow: "YELLOW", red: "RED", unknown: "NOT ON RECORD", login: "Please log in again",
    as_of: (time) => "True up to " + time, again: (n) => "trying again in " + n + " s",
    real_name: "name checked", real_person: "face checked", languages: "Language",
  },
});
