/**
 * The real browser in a test: Chromium as `chromium.ts` finds it, without a window. A tab remembers what it asked of
 * anybody and what went wrong in it, so that a test can say that nothing else was asked and nothing broke.
 */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import type { RunDetail, VolunteerDetail } from '../../shared/api.ts'
import { CHROMIUM_FLAGS, findChromium } from './chromium.ts'
import type { TestCoordinator } from './coordinator.ts'

/** The deadline of what a tab does: software WebGPU compiles its shaders on processors that other tests share. */
export const TAB_MS = 60_000

export interface Tab {
  readonly page: Page
  /** Addresses of everything that the tab, its frames and its workers asked for over HTTP. */
  readonly requested: string[]
  /** Exceptions that nobody caught, and what was logged as an error. */
  readonly errors: string[]
  /** Workers that live in it now. */
  workers(): number
  close(): Promise<void>
}

export function openBrowser(flags = CHROMIUM_FLAGS): Promise<Browser> {
  const executablePath = findChromium()
  if (executablePath === null) throw new Error('browser tabs need Chromium; "npm test" installs it')
  const built = fileURLToPath(new URL('../../dist/contribute.html', import.meta.url))
  if (!existsSync(built)) throw new Error('browser tabs need the built pages; run "npm run build"')
  return chromium.launch({ executablePath, args: flags })
}

/** A tab with storage and a process of its own, at rest: everything its page asks for by itself has been asked. */
export async function openTab(browser: Browser, address: string, options: BrowserContextOptions = {}): Promise<Tab> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })
  const page = await context.newPage()
  const requested: string[] = []
  const errors: string[] = []
  let workers = 0
  context.on('request', (request) => requested.push(request.url()))
  page.on('pageerror', (error) => errors.push(String(error)))
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text())
  })
  page.on('worker', (worker) => {
    workers++
    worker.on('close', () => workers--)
  })
  page.setDefaultTimeout(TAB_MS)
  await page.goto(address, { waitUntil: 'networkidle' })
  return { page, requested, errors, workers: () => workers, close: () => context.close() }
}

/** What the operator API answers for the run, without its limit on how often one may ask. */
export function detailOf(coordinator: TestCoordinator, { run }: { run: string }): RunDetail {
  return coordinator.runs.get(run)!.detail(Date.now())
}

/** The run's volunteers without the coordinator's own. */
export function crowdOf(coordinator: TestCoordinator, run: { run: string }): VolunteerDetail[] {
  return detailOf(coordinator, run).volunteers.filter(({ trusted }) => !trusted)
}
