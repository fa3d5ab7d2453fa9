"""The page in a real browser, over nodes that are killed, frozen and started again."""

import re
import urllib.request

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import WAIT, Cluster, eventually, tabs
from playwright.sync_api import expect

BIG = 2**63 - 25
MERSENNE = 2**127 - 1
# Nobody has found a cheap proof.
PROBABLE = 10**99 + 289
# A multiple of 7.
LONG = "7" * 10_000
WEIGHT_MAX = 90_000
# How many primes there are up to these numbers.
COUNTS = {"1e6": 78_498, "1e10": 455_052_511, "3e10": 1_300_005_926}
WIDTHS = (360, 1280, 2560)
SCHEMES = ("light", "dark")
PARTS = ("document", "script", "stylesheet", "image")

IS_ANNOUNCED = "element => element.role === 'status' || element.closest('[role=status], [aria-live]') !== null"
OVERFLOW = "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
# The rows of a list make room for newer ones; nothing else may.
WATCH_SHIFTS = """() => {
    window.shifted = [];
    const others = shift => shift.sources.map(({node}) => node).filter(node => node && !node.parentElement.closest("ol"));
    const add = shift => window.shifted.push(...others(shift).map(node => node.id || node.className || node.nodeName));
    new PerformanceObserver(list => list.getEntries().forEach(add)).observe({type: "layout-shift"});
}"""
# Frame by frame; what takes no time does not move.
WATCH_MOTION = """() => {
    window.moved = [];
    const moves = animation => animation.effect.getComputedTiming().activeDuration > 1;
    const name = animation => animation.animationName ?? animation.transitionProperty ?? "a script";
    const look = () => {
        window.moved.push(...document.getAnimations().filter(moves).map(name));
        requestAnimationFrame(look);
    };
    look();
}"""


def open_at(open_tab, node, name="127.0.0.1", **options):
    """A tab with the page of this node, once it is live."""
    tab = open_tab(node.url().replace("127.0.0.1", name), **options)
    expect(tab.page.locator(f"#connection[data-state=connected][data-node='{node.name}']")).to_be_visible()
    return tab


@pytest.fixture
def tab(cluster, open_tab):
    return open_at(open_tab, cluster.leader)


@pytest.fixture
def page(tab):
    return tab.page


def lose(nodes, *tabs):
    """Kills the nodes; from now on requests to them may fail."""
    for node in nodes:
        for tab in tabs:
            tab.lost.add(node.http)
        node.kill()


def connected_elsewhere(page, cluster, node):
    """The node with which the page goes on when it cannot with this one; it names both."""
    connection = page.locator(f"#connection[data-state=connected]:not([data-node='{node.name}'])")
    expect(connection).to_be_visible()
    other = next(other for other in cluster.nodes if other.name == connection.get_attribute("data-node"))
    expect(connection).to_contain_text(re.compile(f"{node.name} at .* now connected to {other.name} at", re.I))
    expect(page.locator("#timeline li[data-change=page]").first).to_contain_text(node.name)
    return other


def is_lost(page):
    expect(page.locator("#connection[data-state=lost]")).to_contain_text("No member answers")


def card(page, node, status="alive"):
    return page.locator(f"#members article.member[data-name='{node.name}'][data-status='{status}']")


def all_alive(page, cluster):
    expect(page.locator("#members article.member")).to_have_count(len(cluster.nodes))
    for node in cluster.nodes:
        expect(card(page, node)).to_contain_text("alive")


def has_died(page, node):
    expect(card(page, node, "dead")).to_contain_text("dead")


def explained(page, node, change, observer):
    """The timeline gives the reason that the observer has for what happened last of this kind."""
    changes = observer.get("/cluster")["recent"]
    reason = next(seen["reason"] for seen in changes if (seen["name"], seen["change"]) == (node.name, change))
    entries = page.locator(f"#timeline li[data-change='{change}']")
    expect(entries.filter(has=page.locator("strong", has_text=node.name)).first).to_contain_text(reason)


def ask(page, number):
    page.locator("#question").fill(str(number))
    page.locator("#ask").click()


def answered(page, number, prime=True, certainty="proven"):
    """Waits for the whole answer: the number, the verdict, how sure it is, who gave it, how long it took."""
    answer = page.locator("#answer")
    expect(answer).to_contain_text(re.compile(f"{shortened(number)}.* is {'' if prime else 'not '}prime"))
    for expected in (certainty, r"\b(worker[123]|leader)\b", r"\d (µs|ms|s)\b"):
        expect(answer).to_contain_text(re.compile(expected), use_inner_text=True)
    if shortened(number) != str(number):
        assert whole_number(page, answer) == str(number)


def shortened(number):
    """A long number, as the page shows it first."""
    digits = str(number)
    return digits if len(digits) <= 26 else f"{digits[:10]}…{digits[-8:]}"


def whole_number(page, shown):
    """All digits, which the short form opens."""
    shown.get_by_role("button", name="…").click()
    digits = page.get_by_role("dialog").get_by_role("textbox").input_value()
    page.get_by_role("button", name="Close").click()
    return digits


def refused(page, why):
    expect(page.locator("#answer")).to_contain_text(why)
    expect(page.locator("#question")).to_have_attribute("aria-invalid", "true")


# The first of all, while the timeline is short.
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_jumps(cluster, open_tab, width):
    """What comes by itself does not move what is read, wherever on the page it is."""
    tab = open_at(open_tab, cluster.leader, viewport={"width": width, "height": 5000})
    tab.page.evaluate(WATCH_SHIFTS)
    for number in range(30):
        cluster.leader.ask(number)
    lose(cluster.workers[:1], tab)
    has_died(tab.page, cluster.workers[0])
    cluster.start(cluster.workers[0])
    all_alive(tab.page, cluster)
    assert tab.page.evaluate("window.shifted") == []


@pytest.mark.parametrize(
    "number, prime, certainty",
    [(BIG, True, "proven"), (MERSENNE, True, "proven"), (PROBABLE, True, "probable"), (18, False, "proven"), (-7, False, "proven")],
)
def test_ask_one(page, number, prime, certainty):
    ask(page, number)
    answered(page, number, prime, certainty)


@pytest.mark.parametrize(
    "number, why",
    [
        (MERSENNE, "proven by the test of Lucas and Lehmer"),
        (10**30 + 57, "prime factors of the number less 1"),
        (PROBABLE, "No cheap proof was found"),
        (2**137 - 1, "fails the Lucas test with discriminant -7"),
        (3 * MERSENNE, "a multiple of 3"),
        (18, "never mistakes"),
    ],
)
def test_the_page_says_why(page, number, why):
    ask(page, number)
    expect(page.locator("#answer")).to_contain_text(why)


@pytest.mark.parametrize(
    "bad, why",
    [
        ("1.5", "is not a number that can be asked"),
        ("007", "No leading zeros"),
        ("7" * 10_001, "10,000"),
        ("9^9^9", "is not a number"),
        ("9^999999999", "10,000"),
        ("1..2^64", "between 0 and 2^64-1"),
        ("9..3", "begins at 9, after its end 3"),
        ("", "Write"),
    ],
)
def test_a_bad_number_is_explained(page, bad, why):
    ask(page, bad)
    refused(page, why)
    ask(page, BIG)
    answered(page, BIG)
    expect(page.locator("#question")).not_to_have_attribute("aria-invalid", "true")


def test_ten_thousand_digits(page):
    ask(page, LONG)
    answered(page, LONG, prime=False)


@pytest.mark.parametrize(
    "typed, number, prime",
    [
        ("1e12", 10**12, False),
        ("10^12", 10**12, False),
        ("2^127-1", MERSENNE, True),
        ("2^127 - 1", MERSENNE, True),
        ("2¹²⁷ − 1", MERSENNE, True),
        ("10^20 + 39", 10**20 + 39, True),
        ("1-1000", -999, False),
    ],
)
def test_numbers_as_people_type_them(page, typed, number, prime):
    ask(page, typed)
    answered(page, number, prime, certainty="p(roven|robable)")


@pytest.mark.parametrize("typed", ["1..1e6", "1 to 10^6", "1 - 1000000", "1–1e6"])
def test_ranges_as_people_type_them(page, typed):
    ask(page, typed)
    expect(page.locator("#reading")).to_have_text("The range from 1 to 1,000,000")
    counted(page, COUNTS["1e6"])


def counted(page, count):
    """Waits for the end of the count."""
    expect(page.locator("#range[data-state=done]")).to_be_visible()
    expect(page.locator("#range-count")).to_have_text(f"{count:,}")
    expect(page.locator("#range-done")).to_have_text("100 %")
    expect(page.locator("#range-news")).to_contain_text(f"{count:,} primes")


def workers_of_cells(page):
    return page.locator("#strip span").evaluate_all("cells => cells.map(cell => cell.dataset.worker ?? null)")


def test_a_range_is_counted(cluster, page):
    ask(page, "1..1e10")
    counted(page, COUNTS["1e10"])
    names = {worker.name for worker in cluster.workers}
    done_by = workers_of_cells(page)
    assert len(set(done_by)) >= 2 and set(done_by) <= names, set(done_by)
    expect(page.locator("#strip span").first).to_have_attribute("title", re.compile("^1 to 41,666,666: worker"))
    for name in set(done_by):
        expect(page.locator(f"#range-legend li[data-name={name}]")).to_contain_text(re.compile(rf"^{name} \d+ %$"))


def has_done_a_part(page, name):
    """A count goes on, and that worker has done a part of it."""
    expect(page.locator(f"#strip span[data-worker={name}]").first).to_be_visible()
    expect(page.locator("#range")).to_have_attribute("data-state", "counting")


def test_a_worker_dies_during_a_count(cluster, tab):
    page, worker = tab.page, cluster.workers[1]
    ask(page, "1..3e10")
    has_done_a_part(page, worker.name)
    lose([worker], tab)
    counted(page, COUNTS["3e10"])
    done_by = workers_of_cells(page)
    assert worker.name in done_by and None not in done_by
    assert worker.name not in done_by[-30:], "others go on"


def test_the_asked_node_dies_during_a_count(cluster, tab):
    """Another one counts what is left, and the parts are added."""
    page = tab.page
    ask(page, "1..3e10")
    has_done_a_part(page, cluster.workers[0].name)
    lose([cluster.leader], tab)
    node = connected_elsewhere(page, cluster, cluster.leader)
    counted(page, COUNTS["3e10"])
    assert None not in workers_of_cells(page)
    asked = [request.url for request in tab.requests if "/primes/count" in request.url]
    assert len(asked) >= 2 and node.http in asked[-1] and "from=1&" not in asked[-1], asked


def nobody_works(cluster):
    members = cluster.leader.get("/cluster")["members"]
    return all(member["in_flight"] == 0 for member in members)


@pytest.mark.parametrize("how", ["stop", "ask", "close"])
def test_a_count_that_is_not_wanted_any_more_ends(cluster, tab, how):
    page = tab.page
    ask(page, "1..1e12")
    has_done_a_part(page, cluster.workers[0].name)
    if how == "stop":
        page.locator("#stop").click()
        expect(page.locator("#range-problem")).to_contain_text(re.compile("Stopped. Counted up to [0-9,]+"))
        expect(page.locator("#stop")).to_be_hidden()
    elif how == "ask":
        ask(page, 17)
        answered(page, 17)
        expect(page.locator("#range")).to_be_hidden()
    else:
        page.close()
    eventually("nobody counts any more", lambda: nobody_works(cluster))


POINTS = """canvas => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const isDrawn = (x, y) => data[4 * (y * canvas.width + x) + 3] > 0;
    let drawn = 0;
    for (let byte = 3; byte < data.length; byte += 4) if (data[byte] > 0) drawn++;
    const middle = (canvas.width - 1) >> 1, row = canvas.height >> 1;
    // 2 is to the right of 1, 3 above it, 4 above 1, 5 to the left of 4.
    const first = [[0, 0], [1, 0], [1, -1], [0, -1], [-1, -1]].map(([x, y]) => isDrawn(middle + x, row + y));
    return [drawn, first];
}"""


def test_the_spiral(page):
    ask(page, "1..10000")
    counted(page, 1229)
    expect(page.locator("#spiral-of")).to_have_text("Ulam spiral of 1 to 10,000: 1,229 primes")
    expect(page.locator("#spiral")).to_have_attribute("aria-label", re.compile("1,229 primes"))
    assert page.locator("#spiral").evaluate(POINTS) == [1229, [False, True, True, False, True]]


def test_neighbours(page):
    ask(page, 17)
    answered(page, 17)
    page.get_by_role("button", name="Next prime").click()
    answered(page, 19)
    page.get_by_role("button", name="Previous prime").click()
    answered(page, 17)


def tab_to(page, hook):
    """Goes there as one does without a mouse."""
    for _ in range(50):
        if page.evaluate("document.activeElement.id") == hook:
            return
        page.keyboard.press("Tab")
    pytest.fail(f"the keyboard does not reach {hook}")


def test_with_the_keyboard_alone(page):
    tab_to(page, "question")
    page.keyboard.insert_text(str(BIG))
    page.keyboard.press("Enter")
    answered(page, BIG)
    page.keyboard.press("Shift+Tab")
    tab_to(page, "question")
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(f"17\n{MERSENNE}\n")
    tab_to(page, "ask")
    page.keyboard.press("Enter")
    expect(page.locator("#many-progress")).to_contain_text("2 of 2")


def test_what_changes_is_announced(page):
    for hook in ("answer", "connection", "many-progress", "range-news", "range-problem", "announcer"):
        assert page.locator(f"#{hook}").evaluate(IS_ANNOUNCED), hook


def hold_back(page, number):
    """Keeps the request for this number from the network; a list with it, once it is made."""
    held = []

    def decide(route):
        held.append(route) if number in (route.request.post_data or "") else route.continue_()

    page.route("**/prime", decide)
    return held


def when_held(page, held):
    # Only a call into the browser lets its events come.
    eventually("the request is made", lambda: page.evaluate("0") or held)
    return held[0]


def test_paste_many(cluster, tab):
    """One request for 305 numbers; one of them is none, and another is written in another form."""
    page = tab.page
    numbers = [str(10**20 + 39 + 7920 * place) for place in range(305)]
    numbers[20], numbers[21] = "10e", "2^89-1"
    page.locator("#question").focus()
    page.keyboard.insert_text("\n".join(numbers))
    expect(page.locator("#reading")).to_have_text("305 numbers")
    page.locator("#ask").click()
    expect(page.locator("#many-progress")).to_contain_text("305 of 305")
    assert sum(request.method == "POST" for request in tab.requests) == 1
    for first in range(0, 305, 100):
        expect(page.locator("#many-results")).to_have_attribute("start", str(first + 1))
        rows = page.locator("#many-results li").all_text_contents()
        for number, row in zip(numbers[first : first + 100], rows, strict=True):
            assert row.startswith(number + verdict(cluster, number)), row
        # The last time there is nothing later, and it does nothing.
        page.locator("#many-later").click(force=True)


def verdict(cluster, number):
    if number == "10e":
        return "“10e” is not a number"
    if number == "2^89-1":
        return f" = {shortened(2**89 - 1)} (27 digits)prime"
    return "prime" if cluster.leader.ask(number)["is_prime"] else "not prime"


def test_the_asked_node_dies_under_many_numbers(cluster, tab):
    """Another one answers those that are left, in order."""
    page = tab.page
    numbers = [str(2**4423 - 1 - 2 * place) for place in range(300)]
    ask(page, "\n".join(numbers))
    expect(page.locator("#many-count")).to_have_text(re.compile("[1-9][0-9]* of 300"))
    lose([cluster.leader], tab)
    connected_elsewhere(page, cluster, cluster.leader)
    expect(page.locator("#many-news")).to_contain_text(re.compile(r"300 of 300: [1-9]\d* prime, \d+ not; "), timeout=3 * WAIT * 1000)


def test_results_of_others(cluster, page):
    """What somebody else asks, of any node, appears by itself."""
    for place, node in enumerate(cluster.nodes):
        node.ask(10**18 + place)
        expect(page.locator("#results")).to_contain_text(f"{10**18 + place}")


def test_members(cluster, page):
    all_alive(page, cluster)
    leader = page.locator("#members article.member[data-role=leader]")
    expect(leader).to_have_count(1)
    expect(leader).to_have_attribute("data-name", "leader")
    expect(page.locator("#summary")).to_contain_text("4 of 4 members alive, led by leader")


def test_members_show_their_work(cluster, page):
    for number in range(30):
        cluster.leader.ask(number)
    for worker in cluster.workers:
        expect(card(page, worker)).to_contain_text("33 %")
        chart = card(page, worker).get_by_role("img")
        expect(chart).to_have_attribute("aria-label", re.compile("at most [1-9]"))


def test_a_worker_dies_and_comes_back(cluster, tab):
    page, worker = tab.page, cluster.workers[1]
    page.evaluate("window.isSame = true")
    lose([worker], tab)
    has_died(page, worker)
    explained(page, worker, "dead", cluster.leader)
    ask(page, BIG)
    answered(page, BIG)
    cluster.start(worker)
    all_alive(page, cluster)
    explained(page, worker, "alive", cluster.leader)
    assert page.evaluate("window.isSame"), "the page was not loaded anew"


def test_the_leader_dies_and_another_takes_over(cluster, open_tab):
    name = cluster.leader.get("/cluster")["leader"]["name"]
    leader = next(node for node in cluster.nodes if node.name == name)
    observer = next(node for node in cluster.nodes if node != leader)
    page = (tab := open_at(open_tab, observer)).page
    lose([leader], tab)
    has_died(page, leader)
    election = page.locator("#elections li").first
    expect(election).to_have_text(re.compile(rf"took over from {name}: .+, [\d.]+ m?s$"))
    successor = observer.get("/cluster")["leader"]["name"]
    expect(election).to_contain_text(f"{successor} took over")
    led = re.compile(rf"3 of 4 members alive, led by {successor} since \d\d:\d\d:\d\d$")
    expect(page.locator("#summary")).to_have_text(led)
    expect(page.locator("#members article[data-leads=true]")).to_have_attribute("data-name", successor)
    for node, change in ((leader, "leader lost"), (leader, "dead")):
        explained(page, node, change, observer)
    cluster.start(leader)
    all_alive(page, cluster)


# A person types another name than the one that is advertised.
@pytest.mark.parametrize("place, name", [(0, "localhost"), (0, "127.0.0.1"), (3, "127.0.0.1")])
def test_the_node_of_the_page_dies(cluster, open_tab, place, name):
    node = cluster.nodes[place]
    tab = open_at(open_tab, node, name)
    lose([node], tab)
    connected_elsewhere(tab.page, cluster, node)
    ask(tab.page, BIG)
    answered(tab.page, BIG)
    has_died(tab.page, node)
    cluster.start(node)
    all_alive(tab.page, cluster)


def test_one_after_the_other_dies(cluster, tab):
    """The page goes on with any that is left."""
    node = cluster.leader
    for number in (17, 2**61 - 1, BIG):
        lose([node], tab)
        node = connected_elsewhere(tab.page, cluster, node)
        ask(tab.page, number)
        answered(tab.page, number)


def test_an_open_question_is_answered_by_another(cluster, tab):
    page = tab.page
    held = hold_back(page, str(BIG))
    ask(page, BIG)
    assert cluster.leader.http in when_held(page, held).request.url
    page.unroute("**/prime")
    lose([cluster.leader], tab)
    answered(page, BIG)


def test_the_node_of_the_page_freezes(cluster, tab):
    tab.lost.add(cluster.leader.http)
    cluster.leader.freeze()
    connected_elsewhere(tab.page, cluster, cluster.leader)
    ask(tab.page, BIG)
    answered(tab.page, BIG)


def test_all_die_and_come_back(cluster, tab):
    """A question that is asked meanwhile is answered then."""
    lose(cluster.nodes, tab)
    is_lost(tab.page)
    ask(tab.page, MERSENNE)
    cluster.restore()
    answered(tab.page, MERSENNE)
    expect(tab.page.locator("#connection")).to_have_attribute("data-state", "connected")
    all_alive(tab.page, cluster)


def fetch(url):
    with urllib.request.urlopen(url, timeout=WAIT) as answer:
        return answer.headers, answer.read()


def test_weight(tab):
    loaded = {request.url for request in tab.requests if request.resource_type in PARTS}
    linked = tab.page.locator("link").evaluate_all("links => links.map(link => link.href)")
    weight = {url: len(fetch(url)[1]) for url in loaded | set(linked)}
    assert len(weight) >= 4 and all(weight.values())
    assert sum(weight.values()) <= WEIGHT_MAX, weight


def test_policy(cluster):
    policy = fetch(cluster.leader.url())[0]["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy


# Neither an IPv6 address nor an underscore can stand in a policy as it is.
@pytest.mark.parametrize("host, advertised", [("[::1]", None), ("127.0.0.1", "my_host")])
def test_members_that_a_policy_cannot_name(browser, host, advertised):
    cluster = Cluster(1, host)
    for node in cluster.nodes:
        node.advertised = advertised and node.http.replace(host, advertised)
    with cluster, tabs(browser, cluster) as open_tab:
        tab = open_at(open_tab, cluster.leader)
        lose([cluster.leader], tab)
        connected_elsewhere(tab.page, cluster, cluster.leader)
        ask(tab.page, BIG)
        answered(tab.page, BIG)
        has_died(tab.page, cluster.leader)


def outcomes(page):
    """Shows all that there may be, one after the other: many answers and a refusal among them, a range, a long answer."""
    ask(page, f"17\n1.5\n{MERSENNE}\n{LONG}")
    expect(page.locator("#many-progress")).to_contain_text("4 of 4")
    yield
    ask(page, "1..2e9")
    expect(page.locator("#range[data-state=done]")).to_be_visible()
    yield
    ask(page, "1.5")
    refused(page, "is not a number")
    yield
    ask(page, LONG)
    answered(page, LONG, prime=False)
    yield


def is_accessible(page):
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def looks(open_tab, node):
    """The page in light and dark, narrow and wide; at rest, because colours on their way are judged wrongly."""
    for scheme in SCHEMES:
        for width in WIDTHS[:2]:
            size = {"width": width, "height": 900}
            yield open_at(open_tab, node, color_scheme=scheme, viewport=size, reduced_motion="reduce")


def test_axe(cluster, open_tab):
    for tab in looks(open_tab, cluster.leader):
        is_accessible(tab.page)
        for _ in outcomes(tab.page):
            is_accessible(tab.page)


def test_axe_while_members_are_gone(cluster, open_tab):
    tabs = list(looks(open_tab, cluster.leader))
    lose(cluster.workers[:1], *tabs)
    for tab in tabs:
        has_died(tab.page, cluster.workers[0])
        is_accessible(tab.page)
    lose(cluster.nodes, *tabs)
    for tab in tabs:
        is_lost(tab.page)
        is_accessible(tab.page)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(cluster, open_tab, width):
    tab = open_at(open_tab, cluster.leader, viewport={"width": width, "height": 900})
    assert tab.page.evaluate(OVERFLOW) <= 0
    for _ in outcomes(tab.page):
        assert tab.page.evaluate(OVERFLOW) <= 0
    lose(cluster.nodes, tab)
    is_lost(tab.page)
    assert tab.page.evaluate(OVERFLOW) <= 0


def test_nothing_moves_where_that_is_not_wanted(cluster, open_tab):
    tab = open_at(open_tab, cluster.leader, reduced_motion="reduce")
    tab.page.evaluate(WATCH_MOTION)
    for _ in outcomes(tab.page):
        pass
    lose(cluster.workers[:1], tab)
    has_died(tab.page, cluster.workers[0])
    assert set(tab.page.evaluate("window.moved")) == set()
