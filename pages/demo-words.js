// What the first page of the demonstration says.

learn({
  "zh-Hans": {
    title: "亮码演示", languages: "语言", about: "一座虚构城市的健康码：选择一个角色，在新标签页中打开。", replace: "", away: "暂时连不上服务",
    no_phone: "手机打不开本机地址：要用手机扫下面的二维码，请以 demo --lan 启动。", phone: "同一网络的手机可扫二维码打开。扫码页的相机需要 HTTPS，可在本机打开，或粘贴。",
    green: "居民：绿码", green_says: "亮码、家人（含白底码）、健康信息、申报、行程卡、授权", red: "居民：红码", red_says: "原因与解除指引，一份待复核的申诉", white: "儿童：白底码", white_says: "未经实人核验，照常扫码，请核对证件",
    visitor: "外地访客：澳门的离线码", visitor_says: "在扫码页扫它，或粘贴：颜色来自澳门的清单，请核对证件",
    gate: "扫码员", gate_says: "扫码、连续模式、本班计数、名单核验", school: "学校", school_says: "按授权核验全部成员，上传自己的名单，批量申报", staff: "工作人员", staff_says: "为无证件者登记并打印凭条，查询，入粤名单（2030-05-06 天河区）", operator: "运营人员", operator_says: "节点目前的运行状态（只能在本机打开）",
  },
  "zh-Hant": {
    title: "亮碼演示", languages: "語言", about: "一座虛構城市的健康碼：選擇一個角色，在新標籤頁中打開。", replace: "", away: "暫時連不上服務",
    no_phone: "手機打不開本機地址：要用手機掃下面的二維碼，請以 demo --lan 啟動。", phone: "同一網絡的手機可掃二維碼打開。掃碼頁的相機需要 HTTPS，可在本機打開，或粘貼。",
    green: "居民：綠碼", green_says: "亮碼、家人（含白底碼）、健康信息、申報、行程卡、授權", red: "居民：紅碼", red_says: "原因與解除指引，一份待覆核的申訴", white: "兒童：白底碼", white_says: "未經實人核驗，照常掃碼，請核對證件",
    visitor: "外地訪客：澳門的離線碼", visitor_says: "在掃碼頁掃它，或粘貼：顏色來自澳門的清單，請核對證件",
    gate: "掃碼員", gate_says: "掃碼、連續模式、本班計數、名單核驗", school: "學校", school_says: "按授權核驗全部成員，上傳自己的名單，批量申報", staff: "工作人員", staff_says: "為無證件者登記並列印憑條，查詢，入粵名單（2030-05-06 天河區）", operator: "運營人員", operator_says: "節點目前的運行狀態（只能在本機打開）",
  },
  en: {
    title: "liangma: demonstration", languages: "Language", about: "The health code of a town that does not exist. Choose who you are: it opens in a new tab.", replace: "", away: "The service cannot be reached",
    no_phone: "A phone cannot open an address of this machine: start demo --lan to scan the codes below with one.", phone: "A phone on the same network can scan these codes. The camera of the scanning page needs HTTPS: open it on this machine, or paste.",
    green: "Resident, green", green_says: "The code, family with a white code, health, declarations, trip card, sharing", red: "Resident, red", red_says: "Why, how it is cleared, and an appeal in review", white: "Child, white code", white_says: "Identity not verified: scanned like any other, check an ID",
    visitor: "Visitor with an offline code of Macao", visitor_says: "Scan it at the gate, or paste it there: its colour comes from the list of Macao, and an ID is checked",
    gate: "Gate", gate_says: "Scanning, continuous mode, counts of the shift, rosters", school: "School", school_says: "Everybody who shares a status checked at once, own lists, declarations for many", staff: "Staff", staff_says: "Registration without a document, slip, look-up, who enters (2030-05-06, Tianhe)", operator: "Operator", operator_says: "The present state of the node (opens on this machine only)",
  },
});
