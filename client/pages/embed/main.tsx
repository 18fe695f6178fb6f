/**
 * The frame that the widget puts on somebody's site. It asks on its own origin, inside the frame, where the site
 * cannot press the button for anyone; nothing is loaded, computed or connected before the click.
 * It tells the site only how high it is and the state it is in.
 */
import { render } from 'preact'
import { openContribution, wishOf } from '../contribution.ts'
import { Card } from './card.tsx'

const theme = new URLSearchParams(location.search).get('theme')
if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme

const app = document.getElementById('app')!
const contribution = openContribution(wishOf(location.search))
render(<Card contribution={contribution} />, app)

if (parent !== window) {
  // The site's address is not known here, and neither number is a secret.
  const tell = (message: { height: number } | { state: string }) => parent.postMessage({ crowdgrad: message }, '*')
  new ResizeObserver(() => tell({ height: Math.ceil(app.getBoundingClientRect().height) })).observe(app)
  contribution.status.subscribe((status) => tell({ state: status?.state ?? 'off' }))
}
