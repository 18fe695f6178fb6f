/**
 * The script that a site owner includes: it defines <crowdgrad-widget>, which holds a sandboxed frame of the
 * coordinator this script came from. It computes nothing, connects nowhere and reads nothing of the page.
 *
 *     <script src="https://host/embed.js" async></script>
 *     <crowdgrad-widget run="optional" theme="light|dark, else the visitor's"></crowdgrad-widget>
 *
 * A site may listen: element.addEventListener('crowdgrad-state', (event) => event.detail) says off, starting,
 * connecting, working, waiting, reconnecting, stopped or failed.
 */
;(() => {
  const script = document.currentScript as HTMLScriptElement | null
  if (script === null || customElements.get('crowdgrad-widget')) return
  const frameAddress = new URL('embed', script.src)

  /** Room for the card until it says how high it is, and the most that it is given. */
  const FIRST_HEIGHT = 210
  const MOST_HEIGHT = 420

  // A sheet of its own inside a shadow: the site's rules for the element win, its rules for frames do not reach in,
  // and a strict content security policy allows it.
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(`:host{display:block;max-width:420px}
iframe{display:block;width:100%;height:${FIRST_HEIGHT}px;border:0;border-radius:16px}`)

  class CrowdgradWidget extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return
      const address = new URL(frameAddress)
      for (const name of ['run', 'theme', 'backend']) {
        const value = this.getAttribute(name)
        if (value) address.searchParams.set(name, value)
      }
      const frame = document.createElement('iframe')
      frame.src = address.href
      frame.title = 'Crowdgrad: help train a neural network'
      frame.loading = 'lazy'
      // Its own origin for storage and workers; a click on the name opens the coordinator's page.
      frame.setAttribute('sandbox', 'allow-scripts allow-same-origin allow-popups allow-popups-to-escape-sandbox')
      frame.referrerPolicy = 'strict-origin'

      addEventListener('message', (event) => {
        if (event.source !== frame.contentWindow || event.origin !== frameAddress.origin) return
        const { height, state } = (event.data?.crowdgrad ?? {}) as { height?: unknown; state?: unknown }
        if (typeof height === 'number' && height > 0) frame.style.height = `${Math.min(height, MOST_HEIGHT)}px`
        if (typeof state === 'string') this.dispatchEvent(new CustomEvent('crowdgrad-state', { detail: state }))
      })
      const shadow = this.attachShadow({ mode: 'open' })
      shadow.adoptedStyleSheets = [sheet]
      shadow.append(frame)
    }
  }

  customElements.define('crowdgrad-widget', CrowdgradWidget)
})()
