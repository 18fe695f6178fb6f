/** The widget on somebody else's site: another host name and port, and nothing at all before the click in its frame. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { crowdOf, openBrowser, openTab, TAB_MS } from '../support/browser.ts'
import { SMALL, startCoordinator, until } from '../support/coordinator.ts'
import { tapInto } from '../support/wiretap.ts'

const SPEC = { ...SMALL, strategy: { ...SMALL.strategy, pushEvery: 8 }, leaseSeconds: 0.5 }

test('[P1] the widget on a page of another origin does nothing before the click in its frame, works after it, and stops', async () => {
  const coordinator = await startCoordinator()
  const wiretap = await tapInto(coordinator.url)
  // The two lines that a site owner pastes, and something that listens to them.
  const html = `<!doctype html><html lang="en"><title>Somebody's site</title><h1>A recipe</h1>
    <script src="${wiretap.url}/embed.js" async></script>
    <crowdgrad-widget backend="wasm" theme="light"></crowdgrad-widget>
    <script>
      const states = []
      document.querySelector('crowdgrad-widget').addEventListener('crowdgrad-state', ({ detail }) => states.push(detail))
    </script>`
  const site = createServer((_request, response) => response.setHeader('content-type', 'text/html').end(html))
  await new Promise<void>((resolve) => site.listen(0, '127.0.0.1', resolve))
  const browser = await openBrowser()
  try {
    const run = await coordinator.createRun(SPEC)
    const address = `http://127.0.0.1:${(site.address() as AddressInfo).port}/`
    expect(new URL(address).hostname).not.toBe(new URL(wiretap.url).hostname)
    const tab = await openTab(browser, address)
    const { page } = tab
    const frame = page.frameLocator('crowdgrad-widget iframe')
    const states = () => page.evaluate('states') as Promise<string[]>

    await frame.getByText('May this page use your device').waitFor()
    await frame.getByText('Nothing runs before you press Start.').waitFor()
    await until('the site is told that it is off', async () => (await states()).includes('off'))
    // Nobody but the person can press it: the site cannot reach into the frame.
    const reach = `document.querySelector('crowdgrad-widget').shadowRoot.querySelector('iframe').contentDocument`
    expect(await page.evaluate(reach)).toBeNull()
    expect(tab.workers()).toBe(0)
    expect(wiretap.sockets).toEqual({ opened: 0, open: 0 })
    expect(wiretap.requests.filter((request) => !/^GET \/(embed\.js$|embed\?|assets\/)/.test(request))).toEqual([])
    expect(wiretap.requests.filter((request) => /worker|tfjs/.test(request))).toEqual([])

    await frame.getByRole('button', { name: 'Start', exact: true }).click()
    await until(
      'updates of the widget are accepted',
      () => (crowdOf(coordinator, run)[0]?.updatesAccepted ?? 0) >= 5,
      TAB_MS,
    )
    expect(crowdOf(coordinator, run)).toMatchObject([{ backend: 'wasm', connected: true, updatesRefused: 0 }])
    await frame.getByText('Computing on your processor (WebAssembly).').waitFor()
    await frame.getByText('You are the only one helping right now').waitFor()
    expect(tab.workers()).toBe(1)
    expect(wiretap.sockets).toEqual({ opened: 1, open: 1 })
    expect(await states()).toContain('working')

    await frame.getByRole('button', { name: 'Stop', exact: true }).click()
    await frame.getByText('Stopped', { exact: true }).waitFor()
    await frame.getByText(/^[\d,]+ updates accepted$/).waitFor()
    await until('its worker is gone', () => tab.workers() === 0)
    await until('its connection is closed', () => wiretap.sockets.open === 0)
    await until('the coordinator has noticed', () => !crowdOf(coordinator, run)[0].connected)
    expect((await states()).at(-1)).toBe('stopped')
    expect(tab.errors).toEqual([])
  } finally {
    await browser.close()
    site.close()
    await wiretap.close()
    await coordinator.close()
  }
}, 120_000)
