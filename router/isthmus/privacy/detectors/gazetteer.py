"""Words of postal addresses: streets, units, states, countries; Chinese provinces and cities."""

from __future__ import annotations

import re

from isthmus.privacy.detectors.vocabulary import words


def _either(names: str) -> str:
    """A pattern of any of the names, which commas part: the longer before its beginning."""
    return "|".join(re.escape(name) for name in names.split(", "))


STREETS = words(
    "st str street ave av avenue rd road ln lane dr drive blvd boulevard ct court crt pl place way"
    " terrace ter terr cir circle cres crescent close sq square pkwy parkway hwy highway trl trail"
    " loop row walk mews grove gardens garden gdns alley plaza quay wharf rise view hill heights"
    " esplanade parade promenade turnpike tpke expressway expy freeway motorway bypass path pike"
    " ridge run broadway crossing point park green vale bend chase causeway centre center mall"
    " strand cove landing junction courts crossroad crossroads"
)
SURE_STREETS = words(
    "st street ave avenue rd road ln lane dr drive blvd boulevard terrace cres crescent pkwy"
    " parkway hwy highway mews turnpike esplanade sq square"
)
"""Those that mean nothing else after a number and a name."""

WEAK_STREETS = words(
    "center centre park point points view hill heights green mall run landing junction crossing"
    " courts walk rise path pike ridge bend chase strand garden gardens pass cove hub plaza"
    " parade"
)
"""Those that need a postcode or a unit with them: parks and centres have names too."""

PREFIXES = words(
    "rua rue calle c/ via viale vicolo piazza avenida avda av avenue boulevard plaza paseo ul al"
    " os strada calea bulevardul bd chemin allée quai carrer rúa praça praza travessa largo corso"
    " ulica jalan jl passeig estrada avinguda impasse place route r plac pl aleja aleje λεωφόρος"
    " λεωφ οδός οδ"
)
"""Those that stand before the name."""

WORDS_TOO = words("place via al os pl route plaza boulevard r av bd box")
"""Those of them that are words of a sentence when they are written small."""

AFTER_NAMES = words(
    "utca u út útja tér tere körút rkp ulice náměstí tänav mnt tee gatvė iela terrasse allé vei"
    " ulica"
)
"""Those that stand between the name and the number."""

SUFFIX = re.compile(
    r"(?:stra(?:ß|ss)e|str|gasse|allee|platz|damm|ufer|brücke|gata|gatan|gatu|vägen|gränd|gade|"
    r"vej|veien|vegen|gaten|vegur|stræti|katu|kuja|tie|laan|straat|plein|gracht|kade|dijk|torget|"
    r"stien|markt|weg|kaari|krogen|gården|gårde|bakken|vænget|toftn|svingen|haugen|lia|brautin|"
    r"puisto|polku|ranta)$"
)
"""Those that end the name's own word."""

UNIT_WORDS = words(
    "apt apartment suite ste studio unit flat room rm floor fl bldg building lot trlr penthouse"
    " level dept"
)
SMALL_WORDS = words(
    "de da do dos das del della di du des la le les el los las van der den von und of the y z al"
    " na u i e af på och ved zu zur am im à l d' sur v dei delle degli nel sul ab ter"
)
FUNCTION_WORDS = words(
    "the a an to in and or is are was were for with at by from that this these it you we they he"
    " she your my our their his her its miles mile km minutes minute hours hour days day years"
    " year months month weeks week people more other different percent ways of on as but not if"
    " than then so can will would have has had be been do does did times time am pm per i kg lbs"
    " feet ft items january february march april may june july august september october november"
    " december jan feb mar apr jun jul aug sep sept oct nov dec"
)
NO_STREETS = words(
    "monday tuesday wednesday thursday friday saturday sunday after before until till page"
    " chapter section figure table step part version number no day room level grade class type"
    " phase volume vol act scene python java windows question problem exercise example article"
    " rule gate flight bus route highway option line verse psalm world since circa team group"
    " item task id code year age is in of the and or to by than over only just approximately"
    " around top best about nearly almost season statement episode game round mobile desk fax"
    " phone tel home office call zip"
)
"""Capitalised or not, what a number after them counts is no house."""

LEADS = words(
    "address addresses addr live lives lived living reside resides residing located situated based"
    " office offices headquarters house home shop store apartment station property party venue"
    " restaurant branch send sent ship shipped shipping deliver delivered delivery mail mailed"
    " move moved moving forward forwarded meet arrived arrives pick drop side refers taxi cab"
    " visit come go stay staying package parcel letter card user residence postal mailing billing"
    " following"
)
LINKS = words("at on in to is are of near from user address addresses addr")
"""What stands right before an address that such a word announces."""

US_STATES = _either(
    "AL, AK, AZ, AR, CA, CO, CT, DE, FL, GA, HI, ID, IL, IN, IA, KS, KY, LA, ME, MD, MA, MI, MN, "
    "MS, MO, MT, NE, NV, NH, NJ, NM, NY, NC, ND, OH, OK, OR, PA, RI, SC, SD, TN, TX, UT, VT, VA, "
    "WA, WV, WI, WY, DC, PR, GU, VI, AA, AE, AP"
)
AU_STATES = _either("NSW, VIC, QLD, SA, WA, TAS, ACT, NT")
CA_PROVINCES = _either("ON, QC, BC, AB, MB, SK, NS, NB, NL, PE, YT, NU")
STATE_NAMES = _either(
    "Alabama, Alaska, Arizona, Arkansas, California, Colorado, Connecticut, Delaware, Florida, "
    "Hawaii, Idaho, Illinois, Indiana, Iowa, Kansas, Kentucky, Louisiana, Maryland, "
    "Massachusetts, Michigan, Minnesota, Mississippi, Missouri, Montana, Nebraska, Nevada, New "
    "Hampshire, New Jersey, New Mexico, New York, North Carolina, North Dakota, Ohio, Oklahoma, "
    "Oregon, Pennsylvania, Rhode Island, South Carolina, South Dakota, Tennessee, Texas, Utah, "
    "Vermont, Virginia, West Virginia, Wisconsin, Wyoming, Ontario, Quebec, Alberta, Manitoba, "
    "Victoria, Queensland, Tasmania"
)
STATES = "|".join((US_STATES, AU_STATES, CA_PROVINCES, STATE_NAMES))
COUNTRIES = _either(
    "USA, U.S.A., UK, United States of America, United States, United Kingdom, United Arab "
    "Emirates, England, Scotland, Wales, Afghanistan, Albania, Algeria, Andorra, Angola, "
    "Argentina, Armenia, Australia, Austria, Azerbaijan, Bahamas, Bahrain, Bangladesh, Barbados, "
    "Belarus, Belgium, Belize, Benin, Bhutan, Bolivia, Bosnia, Botswana, Brazil, Brunei, "
    "Bulgaria, Cambodia, Cameroon, Canada, Chad, Chile, China, Colombia, Congo, Costa Rica, "
    "Croatia, Cuba, Cyprus, Czech Republic, Czechia, Denmark, Ecuador, Egypt, Estonia, Ethiopia, "
    "Fiji, Finland, France, Gabon, Georgia, Germany, Ghana, Greece, Greenland, Guatemala, Guyana, "
    "Haiti, Honduras, Hong Kong, Hungary, Iceland, India, Indonesia, Iran, Iraq, Ireland, Israel, "
    "Italy, Jamaica, Japan, Jordan, Kazakhstan, Kenya, Kuwait, Laos, Latvia, Lebanon, Liberia, "
    "Libya, Liechtenstein, Lithuania, Luxembourg, Madagascar, Malaysia, Maldives, Mali, Malta, "
    "Mauritius, Mexico, Moldova, Monaco, Mongolia, Montenegro, Morocco, Mozambique, Myanmar, "
    "Namibia, Nepal, Netherlands, New Zealand, Nicaragua, Niger, Nigeria, Norway, Oman, Pakistan, "
    "Panama, Paraguay, Peru, Philippines, Poland, Portugal, Qatar, Romania, Russia, Rwanda, Saudi "
    "Arabia, Senegal, Serbia, Singapore, Slovakia, Slovenia, Somalia, South Africa, South Korea, "
    "Korea, Spain, Sri Lanka, Sudan, Suriname, Sweden, Switzerland, Syria, Taiwan, Tanzania, "
    "Thailand, Togo, Tunisia, Turkey, Uganda, Ukraine, Uruguay, Uzbekistan, Venezuela, Vietnam, "
    "Yemen, Zambia, Zimbabwe"
)

PROVINCES_ZH = words(
    "北京 天津 上海 重庆 河北 山西 辽宁 吉林 黑龙江 江苏 浙江 安徽 福建 江西 山东 河南 湖北 湖南"
    " 广东 海南 四川 贵州 云南 陕西 甘肃 青海 台湾 内蒙古 广西 西藏 宁夏 新疆 香港 澳门"
)
CITIES_ZH = words(
    "石家庄 唐山 秦皇岛 邯郸 邢台 保定 张家口 承德 沧州 廊坊 衡水 太原 大同 阳泉 长治 晋城 朔州"
    " 晋中 运城 忻州 临汾 吕梁 呼和浩特 包头 乌海 赤峰 通辽 鄂尔多斯 呼伦贝尔 沈阳 大连 鞍山 抚顺"
    " 本溪 丹东 锦州 营口 阜新 辽阳 盘锦 铁岭 葫芦岛 长春 四平 辽源 通化 松原 延边 哈尔滨"
    " 齐齐哈尔 鸡西 鹤岗 双鸭山 大庆 伊春 佳木斯 七台河 牡丹江 黑河 绥化 南京 无锡 徐州 常州 苏州"
    " 南通 连云港 淮安 盐城 扬州 镇江 泰州 宿迁 杭州 宁波 温州 嘉兴 湖州 绍兴 金华 衢州 舟山 台州"
    " 丽水 义乌 合肥 芜湖 蚌埠 淮南 马鞍山 淮北 铜陵 安庆 黄山 滁州 阜阳 宿州 六安 亳州 池州 宣城"
    " 福州 厦门 莆田 三明 泉州 漳州 南平 龙岩 宁德 南昌 景德镇 萍乡 九江 新余 鹰潭 赣州 吉安 宜春"
    " 抚州 上饶 济南 青岛 淄博 枣庄 东营 烟台 潍坊 济宁 泰安 威海 日照 临沂 德州 聊城 滨州 菏泽"
    " 郑州 开封 洛阳 平顶山 安阳 鹤壁 新乡 焦作 濮阳 许昌 漯河 三门峡 南阳 商丘 信阳 周口 驻马店"
    " 武汉 黄石 十堰 宜昌 襄阳 鄂州 荆门 孝感 荆州 黄冈 咸宁 随州 恩施 长沙 株洲 湘潭 衡阳 邵阳"
    " 岳阳 常德 张家界 益阳 郴州 永州 怀化 娄底 湘西 广州 韶关 深圳 珠海 汕头 佛山 江门 湛江 茂名"
    " 肇庆 惠州 梅州 汕尾 河源 阳江 清远 东莞 中山 潮州 揭阳 云浮 南宁 柳州 桂林 梧州 北海 防城港"
    " 钦州 贵港 玉林 百色 贺州 河池 来宾 崇左 海口 三亚 成都 自贡 攀枝花 泸州 德阳 绵阳 广元 遂宁"
    " 内江 乐山 南充 眉山 宜宾 广安 达州 雅安 巴中 资阳 贵阳 六盘水 遵义 安顺 毕节 铜仁 昆明 曲靖"
    " 玉溪 保山 昭通 丽江 普洱 临沧 大理 拉萨 西安 铜川 宝鸡 咸阳 渭南 延安 汉中 榆林 安康 商洛"
    " 兰州 嘉峪关 金昌 白银 天水 武威 张掖 平凉 酒泉 庆阳 定西 陇南 西宁 银川 石嘴山 吴忠 固原"
    " 中卫 乌鲁木齐 克拉玛依 台北 高雄 台中 台南 新北 桃园 昆山 常熟 张家港 江阴 浦东"
)
"""Without their last character (市, 省), which is often left out."""
