// Divisions of GB/T 2260 by name: provinces (two digits), cities and prefectures (four), and the counties and districts of
// Guangdong (six). A code that has no name here is shown by its digits.

const DIVISIONS = (
  "11 12 13 1301 1302 1303 1304 1305 1306 1307 1308 1309 1310 1311 14 1401 1402 1403 " +
  "1404 1405 1406 1407 1408 1409 1410 1411 15 1501 1502 1503 1504 1505 1506 1507 1508 1509 " +
  "1522 1525 1529 21 2101 2102 2103 2104 2105 2106 2107 2108 2109 2110 2111 2112 2113 2114 " +
  "22 2201 2202 2203 2204 2205 2206 2207 2208 2224 23 2301 2302 2303 2304 2305 2306 2307 " +
  "2308 2309 2310 2311 2312 2327 31 32 3201 3202 3203 3204 3205 3206 3207 3208 3209 3210 " +
  "3211 3212 3213 33 3301 3302 3303 3304 3305 3306 3307 3308 3309 3310 3311 34 3401 3402 " +
  "3403 3404 3405 3406 3407 3408 3410 3411 3412 3413 3415 3416 3417 3418 35 3501 3502 3503 " +
  "3504 3505 3506 3507 3508 3509 36 3601 3602 3603 3604 3605 3606 3607 3608 3609 3610 3611 " +
  "37 3701 3702 3703 3704 3705 3706 3707 3708 3709 3710 3711 3713 3714 3715 3716 3717 41 " +
  "4101 4102 4103 4104 4105 4106 4107 4108 4109 4110 4111 4112 4113 4114 4115 4116 4117 42 " +
  "4201 4202 4203 4205 4206 4207 4208 4209 4210 4211 4212 4213 4228 43 4301 4302 4303 4304 " +
  "4305 4306 4307 4308 4309 4310 4311 4312 4313 4331 44 4401 440103 440104 440105 440106 440111 440112 " +
  "440113 440114 440115 440117 440118 4402 440203 440204 440205 440222 440224 440229 440232 440233 440281 440282 4403 440303 " +
  "440304 440305 440306 440307 440308 440309 440310 440311 4404 440402 440403 440404 4405 440507 440511 440512 440513 440514 " +
  "440515 440523 4406 440604 440605 440606 440607 440608 4407 440703 440704 440705 440781 440783 440784 440785 4408 440802 " +
  "440803 440804 440811 440823 440825 440881 440882 440883 4409 440902 440904 440981 440982 440983 4412 441202 441203 441204 " +
  "441223 441224 441225 441226 441284 4413 441302 441303 441322 441323 441324 4414 441402 441403 441422 441423 441424 441426 " +
  "441427 441481 4415 441502 441521 441523 441581 4416 441602 441621 441622 441623 441624 441625 4417 441702 441704 441721 " +
  "441781 4418 441802 441803 441821 441823 441825 441826 441881 441882 4419 4420 4451 445102 445103 445122 4452 445202 " +
  "445203 445222 445224 445281 4453 445302 445303 445321 445322 445381 45 4501 4502 4503 4504 4505 4506 4507 " +
  "4508 4509 4510 4511 4512 4513 4514 46 4601 4602 4603 4604 50 51 5101 5103 5104 5105 " +
  "5106 5107 5108 5109 5110 5111 5113 5114 5115 5116 5117 5118 5119 5120 5132 5133 5134 52 " +
  "5201 5202 5203 5204 5205 5206 5223 5226 5227 53 5301 5303 5304 5305 5306 5307 5308 5309 " +
  "5323 5325 5326 5328 5329 5331 5333 5334 54 5401 5402 5403 5404 5405 5406 5425 61 6101 " +
  "6102 6103 6104 6105 6106 6107 6108 6109 6110 62 6201 6202 6203 6204 6205 6206 6207 6208 " +
  "6209 6210 6211 6212 6229 6230 63 6301 6302 6322 6323 6325 6326 6327 6328 64 6401 6402 " +
  "6403 6404 6405 65 6501 6502 6504 6505 6523 6527 6528 6529 6530 6531 6532 6540 6542 6543 " +
  "71 81 82"
).split(" ");
const DIVISION_NAMES = {
  "zh-Hans": (
  "北京 天津 河北 石家庄市 唐山市 秦皇岛市 邯郸市 邢台市 保定市 张家口市 承德市 沧州市 廊坊市 衡水市 山西 太原市 大同市 阳泉市 " +
  "长治市 晋城市 朔州市 晋中市 运城市 忻州市 临汾市 吕梁市 内蒙古 呼和浩特市 包头市 乌海市 赤峰市 通辽市 鄂尔多斯市 呼伦贝尔市 巴彦淖尔市 乌兰察布市 " +
  "兴安盟 锡林郭勒盟 阿拉善盟 辽宁 沈阳市 大连市 鞍山市 抚顺市 本溪市 丹东市 锦州市 营口市 阜新市 辽阳市 盘锦市 铁岭市 朝阳市 葫芦岛市 " +
  "吉林 长春市 吉林市 四平市 辽源市 通化市 白山市 松原市 白城市 延边朝鲜族自治州 黑龙江 哈尔滨市 齐齐哈尔市 鸡西市 鹤岗市 双鸭山市 大庆市 伊春市 " +
  "佳木斯市 七台河市 牡丹江市 黑河市 绥化市 大兴安岭地区 上海 江苏 南京市 无锡市 徐州市 常州市 苏州市 南通市 连云港市 淮安市 盐城市 扬州市 " +
  "镇江市 泰州市 宿迁市 浙江 杭州市 宁波市 温州市 嘉兴市 湖州市 绍兴市 金华市 衢州市 舟山市 台州市 丽水市 安徽 合肥市 芜湖市 " +
  "蚌埠市 淮南市 马鞍山市 淮北市 铜陵市 安庆市 黄山市 滁州市 阜阳市 宿州市 六安市 亳州市 池州市 宣城市 福建 福州市 厦门市 莆田市 " +
  "三明市 泉州市 漳州市 南平市 龙岩市 宁德市 江西 南昌市 景德镇市 萍乡市 九江市 新余市 鹰潭市 赣州市 吉安市 宜春市 抚州市 上饶市 " +
  "山东 济南市 青岛市 淄博市 枣庄市 东营市 烟台市 潍坊市 济宁市 泰安市 威海市 日照市 临沂市 德州市 聊城市 滨州市 菏泽市 河南 " +
  "郑州市 开封市 洛阳市 平顶山市 安阳市 鹤壁市 新乡市 焦作市 濮阳市 许昌市 漯河市 三门峡市 南阳市 商丘市 信阳市 周口市 驻马店市 湖北 " +
  "武汉市 黄石市 十堰市 宜昌市 襄阳市 鄂州市 荆门市 孝感市 荆州市 黄冈市 咸宁市 随州市 恩施土家族苗族自治州 湖南 长沙市 株洲市 湘潭市 衡阳市 " +
  "邵阳市 岳阳市 常德市 张家界市 益阳市 郴州市 永州市 怀化市 娄底市 湘西土家族苗族自治州 广东 广州市 荔湾区 越秀区 海珠区 天河区 白云区 黄埔区 " +
  "番禺区 花都区 南沙区 从化区 增城区 韶关市 武江区 浈江区 曲江区 始兴县 仁化县 翁源县 乳源瑶族自治县 新丰县 乐昌市 南雄市 深圳市 罗湖区 " +
  "福田区 南山区 宝安区 龙岗区 盐田区 龙华区 坪山区 光明区 珠海市 香洲区 斗门区 金湾区 汕头市 龙湖区 金平区 濠江区 潮阳区 潮南区 " +
  "澄海区 南澳县 佛山市 禅城区 南海区 顺德区 三水区 高明区 江门市 蓬江区 江海区 新会区 台山市 开平市 鹤山市 恩平市 湛江市 赤坎区 " +
  "霞山区 坡头区 麻章区 遂溪县 徐闻县 廉江市 雷州市 吴川市 茂名市 茂南区 电白区 高州市 化州市 信宜市 肇庆市 端州区 鼎湖区 高要区 " +
  "广宁县 怀集县 封开县 德庆县 四会市 惠州市 惠城区 惠阳区 博罗县 惠东县 龙门县 梅州市 梅江区 梅县区 大埔县 丰顺县 五华县 平远县 " +
  "蕉岭县 兴宁市 汕尾市 城区 海丰县 陆河县 陆丰市 河源市 源城区 紫金县 龙川县 连平县 和平县 东源县 阳江市 江城区 阳东区 阳西县 " +
  "阳春市 清远市 清城区 清新区 佛冈县 阳山县 连山壮族瑶族自治县 连南瑶族自治县 英德市 连州市 东莞市 中山市 潮州市 湘桥区 潮安区 饶平县 揭阳市 榕城区 " +
  "揭东区 揭西县 惠来县 普宁市 云浮市 云城区 云安区 新兴县 郁南县 罗定市 广西 南宁市 柳州市 桂林市 梧州市 北海市 防城港市 钦州市 " +
  "贵港市 玉林市 百色市 贺州市 河池市 来宾市 崇左市 海南 海口市 三亚市 三沙市 儋州市 重庆 四川 成都市 自贡市 攀枝花市 泸州市 " +
  "德阳市 绵阳市 广元市 遂宁市 内江市 乐山市 南充市 眉山市 宜宾市 广安市 达州市 雅安市 巴中市 资阳市 阿坝藏族羌族自治州 甘孜藏族自治州 凉山彝族自治州 贵州 " +
  "贵阳市 六盘水市 遵义市 安顺市 毕节市 铜仁市 黔西南布依族苗族自治州 黔东南苗族侗族自治州 黔南布依族苗族自治州 云南 昆明市 曲靖市 玉溪市 保山市 昭通市 丽江市 普洱市 临沧市 " +
  "楚雄彝族自治州 红河哈尼族彝族自治州 文山壮族苗族自治州 西双版纳傣族自治州 大理白族自治州 德宏傣族景颇族自治州 怒江傈僳族自治州 迪庆藏族自治州 西藏 拉萨市 日喀则市 昌都市 林芝市 山南市 那曲市 阿里地区 陕西 西安市 " +
  "铜川市 宝鸡市 咸阳市 渭南市 延安市 汉中市 榆林市 安康市 商洛市 甘肃 兰州市 嘉峪关市 金昌市 白银市 天水市 武威市 张掖市 平凉市 " +
  "酒泉市 庆阳市 定西市 陇南市 临夏回族自治州 甘南藏族自治州 青海 西宁市 海东市 海北藏族自治州 黄南藏族自治州 海南藏族自治州 果洛藏族自治州 玉树藏族自治州 海西蒙古族藏族自治州 宁夏 银川市 石嘴山市 " +
  "吴忠市 固原市 中卫市 新疆 乌鲁木齐市 克拉玛依市 吐鲁番市 哈密市 昌吉回族自治州 博尔塔拉蒙古自治州 巴音郭楞蒙古自治州 阿克苏地区 克孜勒苏柯尔克孜自治州 喀什地区 和田地区 伊犁哈萨克自治州 塔城地区 阿勒泰地区 " +
  "台湾 香港 澳门"
  ).split(" "),
  "zh-Hant": (
  "北京 天津 河北 石家莊市 唐山市 秦皇島市 邯鄲市 邢台市 保定市 張家口市 承德市 滄州市 廊坊市 衡水市 山西 太原市 大同市 陽泉市 " +
  "長治市 晉城市 朔州市 晉中市 運城市 忻州市 臨汾市 呂梁市 內蒙古 呼和浩特市 包頭市 烏海市 赤峯市 通遼市 鄂爾多斯市 呼倫貝爾市 巴彥淖爾市 烏蘭察布市 " +
  "興安盟 錫林郭勒盟 阿拉善盟 遼寧 瀋陽市 大連市 鞍山市 撫順市 本溪市 丹東市 錦州市 營口市 阜新市 遼陽市 盤錦市 鐵嶺市 朝陽市 葫蘆島市 " +
  "吉林 長春市 吉林市 四平市 遼源市 通化市 白山市 松原市 白城市 延邊朝鮮族自治州 黑龍江 哈爾濱市 齊齊哈爾市 雞西市 鶴崗市 雙鴨山市 大慶市 伊春市 " +
  "佳木斯市 七台河市 牡丹江市 黑河市 綏化市 大興安嶺地區 上海 江蘇 南京市 無錫市 徐州市 常州市 蘇州市 南通市 連雲港市 淮安市 鹽城市 揚州市 " +
  "鎮江市 泰州市 宿遷市 浙江 杭州市 寧波市 温州市 嘉興市 湖州市 紹興市 金華市 衢州市 舟山市 台州市 麗水市 安徽 合肥市 蕪湖市 " +
  "蚌埠市 淮南市 馬鞍山市 淮北市 銅陵市 安慶市 黃山市 滁州市 阜陽市 宿州市 六安市 亳州市 池州市 宣城市 福建 福州市 廈門市 莆田市 " +
  "三明市 泉州市 漳州市 南平市 龍巖市 寧德市 江西 南昌市 景德鎮市 萍鄉市 九江市 新余市 鷹潭市 贛州市 吉安市 宜春市 撫州市 上饒市 " +
  "山東 濟南市 青島市 淄博市 棗莊市 東營市 煙台市 濰坊市 濟寧市 泰安市 威海市 日照市 臨沂市 德州市 聊城市 濱州市 菏澤市 河南 " +
  "鄭州市 開封市 洛陽市 平頂山市 安陽市 鶴壁市 新鄉市 焦作市 濮陽市 許昌市 漯河市 三門峽市 南陽市 商丘市 信陽市 周口市 駐馬店市 湖北 " +
  "武漢市 黃石市 十堰市 宜昌市 襄陽市 鄂州市 荊門市 孝感市 荊州市 黃岡市 咸寧市 隨州市 恩施土家族苗族自治州 湖南 長沙市 株洲市 湘潭市 衡陽市 " +
  "邵陽市 岳陽市 常德市 張家界市 益陽市 郴州市 永州市 懷化市 婁底市 湘西土家族苗族自治州 廣東 廣州市 荔灣區 越秀區 海珠區 天河區 白雲區 黃埔區 " +
  "番禺區 花都區 南沙區 從化區 增城區 韶關市 武江區 湞江區 曲江區 始興縣 仁化縣 翁源縣 乳源瑤族自治縣 新豐縣 樂昌市 南雄市 深圳市 羅湖區 " +
  "福田區 南山區 寶安區 龍崗區 鹽田區 龍華區 坪山區 光明區 珠海市 香洲區 斗門區 金灣區 汕頭市 龍湖區 金平區 濠江區 潮陽區 潮南區 " +
  "澄海區 南澳縣 佛山市 禪城區 南海區 順德區 三水區 高明區 江門市 蓬江區 江海區 新會區 台山市 開平市 鶴山市 恩平市 湛江市 赤坎區 " +
  "霞山區 坡頭區 麻章區 遂溪縣 徐聞縣 廉江市 雷州市 吳川市 茂名市 茂南區 電白區 高州市 化州市 信宜市 肇慶市 端州區 鼎湖區 高要區 " +
  "廣寧縣 懷集縣 封開縣 德慶縣 四會市 惠州市 惠城區 惠陽區 博羅縣 惠東縣 龍門縣 梅州市 梅江區 梅縣區 大埔縣 豐順縣 五華縣 平遠縣 " +
  "蕉嶺縣 興寧市 汕尾市 城區 海豐縣 陸河縣 陸豐市 河源市 源城區 紫金縣 龍川縣 連平縣 和平縣 東源縣 陽江市 江城區 陽東區 陽西縣 " +
  "陽春市 清遠市 清城區 清新區 佛岡縣 陽山縣 連山壯族瑤族自治縣 連南瑤族自治縣 英德市 連州市 東莞市 中山市 潮州市 湘橋區 潮安區 饒平縣 揭陽市 榕城區 " +
  "揭東區 揭西縣 惠來縣 普寧市 雲浮市 雲城區 雲安區 新興縣 鬱南縣 羅定市 廣西 南寧市 柳州市 桂林市 梧州市 北海市 防城港市 欽州市 " +
  "貴港市 玉林市 百色市 賀州市 河池市 來賓市 崇左市 海南 海口市 三亞市 三沙市 儋州市 重慶 四川 成都市 自貢市 攀枝花市 瀘州市 " +
  "德陽市 綿陽市 廣元市 遂寧市 內江市 樂山市 南充市 眉山市 宜賓市 廣安市 達州市 雅安市 巴中市 資陽市 阿壩藏族羌族自治州 甘孜藏族自治州 涼山彝族自治州 貴州 " +
  "貴陽市 六盤水市 遵義市 安順市 畢節市 銅仁市 黔西南布依族苗族自治州 黔東南苗族侗族自治州 黔南布依族苗族自治州 雲南 昆明市 曲靖市 玉溪市 保山市 昭通市 麗江市 普洱市 臨滄市 " +
  "楚雄彝族自治州 紅河哈尼族彝族自治州 文山壯族苗族自治州 西雙版納傣族自治州 大理白族自治州 德宏傣族景頗族自治州 怒江傈僳族自治州 迪慶藏族自治州 西藏 拉薩市 日喀則市 昌都市 林芝市 山南市 那曲市 阿里地區 陝西 西安市 " +
  "銅川市 寶雞市 咸陽市 渭南市 延安市 漢中市 榆林市 安康市 商洛市 甘肅 蘭州市 嘉峪關市 金昌市 白銀市 天水市 武威市 張掖市 平涼市 " +
  "酒泉市 慶陽市 定西市 隴南市 臨夏回族自治州 甘南藏族自治州 青海 西寧市 海東市 海北藏族自治州 黃南藏族自治州 海南藏族自治州 果洛藏族自治州 玉樹藏族自治州 海西蒙古族藏族自治州 寧夏 銀川市 石嘴山市 " +
  "吳忠市 固原市 中衞市 新疆 烏魯木齊市 克拉瑪依市 吐魯番市 哈密市 昌吉回族自治州 博爾塔拉蒙古自治州 巴音郭楞蒙古自治州 阿克蘇地區 克孜勒蘇柯爾克孜自治州 喀什地區 和田地區 伊犁哈薩克自治州 塔城地區 阿勒泰地區 " +
  "台灣 香港 澳門"
  ).split(" "),
  en: (
  "Beijing Tianjin Hebei Shijiazhuang Tangshan Qinhuangdao Handan Xingtai Baoding Zhangjiakou Chengde Cangzhou Langfang Hengshui Shanxi Taiyuan Datong Yangquan " +
  "Changzhi Jincheng Shuozhou Jinzhong Yuncheng Xinzhou Linfen Lüliang Inner_Mongolia Hohhot Baotou Wuhai Chifeng Tongliao Ordos Hulunbuir Bayannur Ulanqab " +
  "Hinggan Xilingol Alxa Liaoning Shenyang Dalian Anshan Fushun Benxi Dandong Jinzhou Yingkou Fuxin Liaoyang Panjin Tieling Chaoyang Huludao " +
  "Jilin Changchun Jilin Siping Liaoyuan Tonghua Baishan Songyuan Baicheng Yanbian Heilongjiang Harbin Qiqihar Jixi Hegang Shuangyashan Daqing Yichun " +
  "Jiamusi Qitaihe Mudanjiang Heihe Suihua Daxing’anling Shanghai Jiangsu Nanjing Wuxi Xuzhou Changzhou Suzhou Nantong Lianyungang Huai’an Yancheng Yangzhou " +
  "Zhenjiang Taizhou Suqian Zhejiang Hangzhou Ningbo Wenzhou Jiaxing Huzhou Shaoxing Jinhua Quzhou Zhoushan Taizhou Lishui Anhui Hefei Wuhu " +
  "Bengbu Huainan Ma’anshan Huaibei Tongling Anqing Huangshan Chuzhou Fuyang Suzhou Lu’an Bozhou Chizhou Xuancheng Fujian Fuzhou Xiamen Putian " +
  "Sanming Quanzhou Zhangzhou Nanping Longyan Ningde Jiangxi Nanchang Jingdezhen Pingxiang Jiujiang Xinyu Yingtan Ganzhou Ji’an Yichun Fuzhou Shangrao " +
  "Shandong Jinan Qingdao Zibo Zaozhuang Dongying Yantai Weifang Jining Tai’an Weihai Rizhao Linyi Dezhou Liaocheng Binzhou Heze Henan " +
  "Zhengzhou Kaifeng Luoyang Pingdingshan Anyang Hebi Xinxiang Jiaozuo Puyang Xuchang Luohe Sanmenxia Nanyang Shangqiu Xinyang Zhoukou Zhumadian Hubei " +
  "Wuhan Huangshi Shiyan Yichang Xiangyang Ezhou Jingmen Xiaogan Jingzhou Huanggang Xianning Suizhou Enshi Hunan Changsha Zhuzhou Xiangtan Hengyang " +
  "Shaoyang Yueyang Changde Zhangjiajie Yiyang Chenzhou Yongzhou Huaihua Loudi Xiangxi Guangdong Guangzhou Liwan Yuexiu Haizhu Tianhe Baiyun Huangpu " +
  "Panyu Huadu Nansha Conghua Zengcheng Shaoguan Wujiang Zhenjiang Qujiang Shixing Renhua Wengyuan Ruyuan Xinfeng Lechang Nanxiong Shenzhen Luohu " +
  "Futian Nanshan Bao’an Longgang Yantian Longhua Pingshan Guangming Zhuhai Xiangzhou Doumen Jinwan Shantou Longhu Jinping Haojiang Chaoyang Chaonan " +
  "Chenghai Nan’ao Foshan Chancheng Nanhai Shunde Sanshui Gaoming Jiangmen Pengjiang Jianghai Xinhui Taishan Kaiping Heshan Enping Zhanjiang Chikan " +
  "Xiashan Potou Mazhang Suixi Xuwen Lianjiang Leizhou Wuchuan Maoming Maonan Dianbai Gaozhou Huazhou Xinyi Zhaoqing Duanzhou Dinghu Gaoyao " +
  "Guangning Huaiji Fengkai Deqing Sihui Huizhou Huicheng Huiyang Boluo Huidong Longmen Meizhou Meijiang Meixian Dabu Fengshun Wuhua Pingyuan " +
  "Jiaoling Xingning Shanwei Chengqu Haifeng Luhe Lufeng Heyuan Yuancheng Zijin Longchuan Lianping Heping Dongyuan Yangjiang Jiangcheng Yangdong Yangxi " +
  "Yangchun Qingyuan Qingcheng Qingxin Fogang Yangshan Lianshan Liannan Yingde Lianzhou Dongguan Zhongshan Chaozhou Xiangqiao Chao’an Raoping Jieyang Rongcheng " +
  "Jiedong Jiexi Huilai Puning Yunfu Yuncheng Yun’an Xinxing Yunan Luoding Guangxi Nanning Liuzhou Guilin Wuzhou Beihai Fangchenggang Qinzhou " +
  "Guigang Yulin Baise Hezhou Hechi Laibin Chongzuo Hainan Haikou Sanya Sansha Danzhou Chongqing Sichuan Chengdu Zigong Panzhihua Luzhou " +
  "Deyang Mianyang Guangyuan Suining Neijiang Leshan Nanchong Meishan Yibin Guang’an Dazhou Ya’an Bazhong Ziyang Ngawa Garze Liangshan Guizhou " +
  "Guiyang Liupanshui Zunyi Anshun Bijie Tongren Qianxinan Qiandongnan Qiannan Yunnan Kunming Qujing Yuxi Baoshan Zhaotong Lijiang Pu’er Lincang " +
  "Chuxiong Honghe Wenshan Xishuangbanna Dali Dehong Nujiang Diqing Tibet Lhasa Xigaze Qamdo Nyingchi Shannan Nagqu Ngari Shaanxi Xi’an " +
  "Tongchuan Baoji Xianyang Weinan Yan’an Hanzhong Yulin Ankang Shangluo Gansu Lanzhou Jiayuguan Jinchang Baiyin Tianshui Wuwei Zhangye Pingliang " +
  "Jiuquan Qingyang Dingxi Longnan Linxia Gannan Qinghai Xining Haidong Haibei Huangnan Hainan Guoluo Yushu Haixi Ningxia Yinchuan Shizuishan " +
  "Wuzhong Guyuan Zhongwei Xinjiang Urumqi Karamay Turpan Hami Changji Bortala Bayingolin Aksu Kizilsu Kashgar Hotan Ili Tacheng Altay " +
  "Taiwan Hong_Kong Macao"
  ).split(" "),
};
