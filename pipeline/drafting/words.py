"""Words by which columns are known: the usual names of what a log has.

Belongs here: lists of words. Not here: what is made of a column with such a name (roles.py, moments.py, kinds.py).
"""

TIMES = (
    "eventtimestamp", "eventtime", "timestamp", "impressiontime", "impressiontimestamp", "timestampms", "timems", "ts",
    "showtime", "requesttime", "servedat", "shownat", "servetime",
    "logtime", "visittime", "time", "datetime", "timelocal",
    "utctime", "dtm", "eventat", "unixtime", "epoch", "createdat", "date", "day", "dt", "hour", "eventdate",
)  # fmt: skip
TIME_WORDS = frozenset(
    {
        "time",
        "timestamp",
        "ts",
        "date",
        "datetime",
        "hour",
        "day",
        "at",
        "when",
        "dt",
        "epoch",
        "utc",
        "clock",
        "moment",
    }
)
HOURS = ("hour", "hr", "hh", "hourmin", "timeofday", "time", "hourofday", "h")
NOT_OF_ROWS = frozenset({
    "birth", "signup", "registered", "register", "publish", "published", "upload", "uploaded", "release", "released",
    "created", "updated", "first", "last", "expires", "start",
    "end", "valid", "until", "modified", "ingested", "loaded",
})  # fmt: skip

USERS = (
    "userid", "user", "uid", "userkey", "userhash", "visitorid", "visitor", "fullvisitorid", "memberid", "member",
    "customerid", "customer", "viewerid", "readerid", "reader",
    "profileid", "accountid", "account", "personid", "cookieid",
    "cookie", "anonymousid", "anonid", "deviceid", "clientid", "idfa", "gaid", "guid", "msno", "sessionid", "session",
)  # fmt: skip
ITEMS = (
    "itemid", "item", "iid", "targetitemid", "targetitem",
    "adid", "ad", "adgroupid", "adgroup", "creativeid", "creative",
    "bannerid", "productid", "product", "skuid", "sku", "asin", "videoid", "vid", "video", "photoid", "articleid",
    "article", "newsid", "news", "docid", "doc", "documentid", "contentid", "content", "movieid", "movie", "songid",
    "trackid", "track", "musicid", "listingid", "listing",
    "hotelid", "bookid", "goodsid", "offerid", "postid", "feedid",
    "podcastid", "appid", "campaignid", "campaign",
)  # fmt: skip
AROUND = frozenset(
    {
        "hashed",
        "hash",
        "anon",
        "anonymous",
        "encrypted",
        "masked",
        "raw",
        "log",
        "the",
        "event",
        "my",
        "shown",
        "target",
    }
)
SURFACES = (
    "surface", "surfaceid", "placement", "placementid", "adslot", "adslotid", "slot", "slotid", "slottype", "channel",
    "channelid", "scenario", "scenarioid", "scene", "sceneid", "tab", "tabid", "pagetype", "page", "pageid", "pid",
    "section", "platzierung", "platz", "werbeplatz", "flaeche", "bereich", "kanal",
    "siteid", "site", "bannerpos", "source", "appsection",
)  # fmt: skip
REQUESTS = (
    "requestid", "reqid", "request", "displayid", "searchid", "srchid", "queryid", "auctionid", "pageviewid", "pvid",
    "slateid", "batchid", "traceid", "impressionid", "bidid",
)  # fmt: skip
POSITIONS = (
    "position", "pos", "rank", "slotindex", "slotposition", "displayposition", "adposition", "itemposition",
    "positioninpage", "index", "place", "displayrank", "platz", "rang", "stelle",
)  # fmt: skip
PROPENSITIES = (
    "propensity", "propensityscore", "pscore", "actionprob", "actionprobability", "loggingprob", "actionpropensity"
)  # fmt: skip
WEIGHTS = ("weight", "sampleweight", "importanceweight", "impressionweight", "rowweight", "iw")
IMPRESSIONS = (
    "impressionid", "impid", "imprid", "adimpressionid", "eventid", "rowid", "recordid", "logid", "viewid", "bidid",
    "requestid", "uuid", "id",
)  # fmt: skip
ROW_NUMBERS = ("unnamed0", "index", "row", "rownumber", "rownum", "rownr")
EVENTS = ("task", "event", "eventtype", "eventname", "type", "action", "actiontype", "outcome", "behavior", "behaviour")

AFTERWARDS = frozenset({
    "click", "clicks", "clicked", "clk", "label", "like", "liked", "purchase", "purchased", "buy", "bought",
    "conversion", "conversions", "converted", "convert", "conv", "order", "ordered", "install", "installed", "cart",
    "addtocart", "favorite", "favourite", "favorited", "fav", "comment", "commented", "share", "shared", "follow",
    "followed", "forward", "hate", "dislike", "finish", "finished", "complete", "completed", "engaged", "engagement",
    "response", "reward", "skip", "skipped", "open", "opened", "subscribed", "attributed", "attribution", "download",
    "downloaded", "watch", "watched", "dwell", "stay", "revenue", "gmv", "spend", "spent", "rating", "outcome", "cpo",
    "collect", "bounce", "bounced",
    "geklickt", "klick", "klicks", "gekauft", "kauf", "bestellt", "gemerkt", "angesehen", "gesehen", "angeschaut",
    "umsatz", "sehdauer", "verweildauer", "lesedauer", "betrachtungsdauer",
    "clic", "clics", "achat", "compra", "clicado",
})  # fmt: skip
LABELS = ("click", "clicks", "clicked", "clk", "isclick", "isclicked", "label", "target", "y")  # of the main task
VALUES = frozenset({
    "watch", "watched", "dwell", "stay", "revenue", "gmv", "spend", "spent", "rating", "reward", "umsatz", "sehdauer",
    "verweildauer", "lesedauer", "betrachtungsdauer",
})  # fmt: skip
PLAYED = ("playtime", "playduration", "playingtime", "readtime", "readduration", "viewtime", "playratio", "playsec")
VIEWED = frozenset({"long", "effective", "valid", "full", "complete"})  # before "view" or "play"
PAST = frozenset({
    "hist", "history", "historical", "past", "prev", "previous", "prior", "recent", "ctr", "cvr", "rate", "avg", "mean",
    "ago", "before",
})  # fmt: skip
OF_CONTEXT = frozenset({
    "mobile", "app", "weekend", "holiday", "new", "vip", "member", "login", "active", "premium", "ad", "sponsored",
    "organic", "first", "default", "test", "bot", "weekday", "subscriber", "author", "streamer", "verified", "male",
    "female", "lowactive", "returning", "logged", "wifi", "tablet", "desktop", "promoted", "free", "prime", "rand",
})  # fmt: skip
ID_WORDS = frozenset({
    "id", "ids", "code", "type", "category", "cat", "cate",
    "brand", "class", "group", "segment", "level", "tag", "tags",
    "os", "model", "country", "region", "city", "zip", "campaign", "advertiser", "publisher", "network", "customer",
    "gender", "kind", "key", "hash", "zone",
})  # fmt: skip
SPLITS = frozenset({"train", "test", "val", "valid", "validation", "dev", "eval", "part", "data", "log", "csv", "all"})
KNOWN_SINCE = ("updatedat", "validfrom", "timestamp", "eventtimestamp", "asof", "snapshotdate", "snapshot", "ts")
