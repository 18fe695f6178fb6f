/**
 * A crowd of browser tabs: real Chromium without a window, the contribute page as the coordinator serves it, the button
 * that a person presses. Each tab has storage, a worker and a process of its own.
 */
import type { Browser } from 'playwright-core'
import { openBrowser, openTab } from '../../support/browser.ts'
import { CHROMIUM_FLAGS } from '../../support/chromium.ts'
import type { Contributors } from './measured-crowd.ts'

/** A device in software would be declined anyway: a GPU is used where there is one, WebAssembly elsewhere. */
const FLAGS = CHROMIUM_FLAGS.filter((flag) => !flag.includes('swiftshader'))

export class TabCrowd implements Contributors {
  /** A tab, or the browser, ended by itself. */
  failed = false
  private readonly count: number
  private browser: Browser | null = null

  constructor(count: number) {
    this.count = count
  }

  async start(address: string, run: string): Promise<void> {
    const browser = await openBrowser(FLAGS)
    this.browser = browser
    browser.once('disconnected', () => this.fail())
    for (let n = 0; n < this.count; n++) {
      const { page } = await openTab(browser, `${address}/?run=${run}`)
      page.once('crash', () => this.fail())
      await page.getByRole('button', { name: 'Start helping' }).click()
    }
  }

  async stop(): Promise<void> {
    const { browser } = this
    this.browser = null
    await browser?.close()
  }

  private fail(): void {
    if (this.browser !== null) this.failed = true
  }
}
