// What the gate's page says of the time without a network.

learn({
  "zh-Hans": {
    offline_banner: (time, minutes) => "离线核验：清单时间 " + time + "（" + minutes + " 分钟前）", offline_old: "清单较旧",
    offline_none: "离线核验：没有清单", offline_live: "网络中断", offline_live_says: "实时码不能离线核验：请对方出示已保存或打印的离线码。",
    void: "码已作废", void_says: "不代表任何颜色。请对方出示实时码，或核对证件后按本单位预案处理。",
    not_covered: "清单未覆盖", not_covered_says: "此码晚于清单，不代表任何颜色。请联网更新后再扫。",
    list_too_old: "清单过旧", list_too_old_says: "不能给出颜色。请联网更新；仍不通时按本单位预案处理。",
    clock_back: "时钟有误", clock_back_says: "本机时间早于清单，无法判断新旧，不能给出颜色。请校正时间。",
  },
  "zh-Hant": {
    offline_banner: (time, minutes) => "離線核驗：清單時間 " + time + "（" + minutes + " 分鐘前）", offline_old: "清單較舊",
    offline_none: "離線核驗：沒有清單", offline_live: "網絡中斷", offline_live_says: "即時碼不能離線核驗：請對方出示已保存或列印的離線碼。",
    void: "碼已作廢", void_says: "不代表任何顏色。請對方出示即時碼，或核對證件後按本單位預案處理。",
    not_covered: "清單未覆蓋", not_covered_says: "此碼晚於清單，不代表任何顏色。請聯網更新後再掃。",
    list_too_old: "清單過舊", list_too_old_says: "不能給出顏色。請聯網更新；仍不通時按本單位預案處理。",
    clock_back: "時鐘有誤", clock_back_says: "本機時間早於清單，無法判斷新舊，不能給出顏色。請校正時間。",
  },
  en: {
    offline_banner: (time, minutes) => "WITHOUT NETWORK: list of " + time + " (" + minutes + " min ago)", offline_old: "the list is old",
    offline_none: "WITHOUT NETWORK: there is no list", offline_live: "NO NETWORK", offline_live_says: "A live code cannot be checked without the network: ask for a saved or printed one.",
    void: "REVOKED", void_says: "This is neither red nor green. Ask for a live code, or look at a document and do as your site's plan says.",
    not_covered: "NOT COVERED", not_covered_says: "The code is newer than the list, so no colour is known. Scan again when the network is back.",
    list_too_old: "LIST TOO OLD", list_too_old_says: "No colour can be given. If the network stays away, do as your site's plan says.",
    clock_back: "CLOCK IS WRONG", clock_back_says: "This device's time is before the list's: the list's age is unknown, so no colour can be given. Set the clock.",
  },
});
