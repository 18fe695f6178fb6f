/**
 * The real browser for the browser tests: where it is, how it is started, and how it is installed where there is
 * none. Playwright's own download where the network allows it, else the system's package as root, else one line that
 * says what to install.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chromium } from 'playwright-core'

const SYSTEM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', '/snap/bin/chromium']

/** WebGPU in software where there is no GPU, and none of a browser's own errands. */
export const CHROMIUM_FLAGS = [
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--enable-features=Vulkan',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
]

/** The browser's executable, from CHROMIUM, the system or Playwright; null where there is none. */
export function findChromium(): string | null {
  const own = chromium.executablePath()
  return [process.env.CHROMIUM, ...SYSTEM, own].find((path) => path !== undefined && existsSync(path)) ?? null
}

/** Finds or installs it; throws with what to do where it cannot. */
export function ensureChromium(): string {
  const found = findChromium()
  if (found !== null) return found
  console.log('No Chromium found; installing one for the browser tests.')
  const attempt = (command: string, ...args: string[]) => spawnSync(command, args, { stdio: 'inherit' }).status === 0
  const installed =
    attempt('npx', 'playwright-core', 'install', 'chromium') ||
    (process.getuid?.() === 0 && attempt('apt-get', 'update') && attempt('apt-get', 'install', '-y', 'chromium'))
  const now = installed ? findChromium() : null
  if (now === null) {
    throw new Error(
      'the browser tests need Chromium: install it (Debian: "apt-get install chromium") or set CHROMIUM to its path',
    )
  }
  return now
}
