// What the resident's page says of the code that it keeps for bad times.

learn({
  "zh-Hans": {
    saved: "离线码", saved_says: (from, to) => "领取于 " + from + "\n有效至 " + to + "\n颜色由核验处查询，本码不含颜色。",
    saved_note: "请同时出示证件。", saved_print: "打印卡片", saved_title: "健康码离线卡",
  },
  "zh-Hant": {
    saved: "離線碼", saved_says: (from, to) => "領取於 " + from + "\n有效至 " + to + "\n顏色由核驗處查詢，本碼不含顏色。",
    saved_note: "請同時出示證件。", saved_print: "列印卡片", saved_title: "健康碼離線卡",
  },
  en: {
    saved: "Offline code", saved_says: (from, to) => "Issued " + from + "\nValid until " + to + "\nIt carries no colour: the gate looks that up.",
    saved_note: "Show your document with it.", saved_print: "Print a card", saved_title: "Health code, offline card",
  },
});
