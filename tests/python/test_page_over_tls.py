"""The page over https in a real browser, which believes the nodes because their CA is in its own database."""

import os
import subprocess

import pytest
from certificates import certificates, elsewhere
from conftest import WAIT, Cluster, a_browser
from nginx import nginx
from playwright.sync_api import Error, expect
from test_page import BIG, all_alive, answered, ask, card, connected_elsewhere, has_died, lose, open_at

TOKEN = "a-token-of-the-tests"
BEFORE_TLS = "location / {{ proxy_pass https://NODE; proxy_ssl_trusted_certificate {ca}; proxy_ssl_verify on; proxy_ssl_name localhost; }}"


@pytest.fixture(scope="module")
def four_nodes(certificates, tmp_path_factory):
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN)
    with Cluster(certificates=certificates, token_file=token) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def browser(playwright, certificates, tmp_path_factory):
    """No error of a certificate is ignored: chains and names are verified as those of any site."""
    home = tmp_path_factory.mktemp("home")
    database = home / ".pki/nssdb"
    database.mkdir(parents=True)
    for told in (["-N", "--empty-password"], ["-A", "-n", "tests", "-t", "C,,", "-i", certificates.ca]):
        subprocess.run(["certutil", "-d", f"sql:{database}", *told], check=True, timeout=WAIT)
    with a_browser(playwright, env={**os.environ, "HOME": str(home)}) as browser:
        yield browser


@pytest.fixture
def tab(cluster, open_tab):
    return open_at(open_tab, cluster.leader)


def test_the_page_asks_and_shows_the_members(cluster, tab):
    ask(tab.page, BIG)
    answered(tab.page, BIG)
    all_alive(tab.page, cluster)
    for node in cluster.nodes:
        links = card(tab.page, node).locator("a").evaluate_all("links => links.map(link => link.href)")
        assert links and all(link.startswith(node.url()) for link in links), links
    assert all(request.url.startswith("https://") for request in tab.requests)


def test_the_page_goes_on_with_another_member(cluster, tab):
    lose([cluster.leader], tab)
    other = connected_elsewhere(tab.page, cluster, cluster.leader)
    ask(tab.page, BIG)
    answered(tab.page, BIG)
    assert any(request.url.startswith(other.url("/events")) for request in tab.requests)
    has_died(tab.page, cluster.leader)
    cluster.start(cluster.leader)
    expect(card(tab.page, cluster.leader)).to_contain_text("alive")


def test_a_page_behind_a_proxy_in_clear_text_goes_on_with_a_member_over_https(cluster, certificates, open_tab):
    with nginx(cluster.leader.http, BEFORE_TLS.format(ca=certificates.ca)) as proxy:
        tab = open_tab(f"http://{proxy}/")
        tab.allowed += ["502", "504", "ERR_INCOMPLETE_CHUNKED_ENCODING"]
        ask(tab.page, BIG)
        answered(tab.page, BIG)
        lose([cluster.leader], tab)
        other = connected_elsewhere(tab.page, cluster, cluster.leader)
        assert any(request.url.startswith(other.url()) for request in tab.requests)
        ask(tab.page, 17)
        answered(tab.page, 17)


def test_swagger_ui(cluster, open_tab):
    page = open_tab(cluster.leader.url("/docs/")).page
    operation = page.locator(".opblock", has_text="/prime/{number}").first
    operation.locator(".opblock-summary-control").click()
    with page.expect_response(lambda answer: answer.request.resource_type == "fetch") as sent:
        operation.get_by_role("button", name="Execute", exact=True).click()
    assert sent.value.status == 200 and sent.value.url.startswith(cluster.leader.url("/prime/"))
    expect(operation.locator(".live-responses-table tbody")).to_contain_text("is_prime")


def test_a_node_of_another_ca_is_no_page(browser, elsewhere):
    with Cluster(workers=0, certificates=elsewhere) as alone:
        page = browser.new_page()
        with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
            page.goto(alone.leader.url())
        page.close()
