/** The demo page's only moving part: the two lines of HTML for this very coordinator, and a button that copies them. */
import { render } from 'preact'
import { useState } from 'preact/hooks'

const lines = `<script src="${location.origin}/embed.js" async></script>\n<crowdgrad-widget></crowdgrad-widget>`

function Snippet() {
  const [copied, setCopied] = useState(false)
  const copy = async () => {
    await navigator.clipboard.writeText(lines)
    setCopied(true)
    setTimeout(() => setCopied(false), 2000)
  }
  return (
    <div class="snippet">
      <pre>
        <code>{lines}</code>
      </pre>
      {/* The clipboard exists on secure pages only. */}
      {navigator.clipboard && (
        <button type="button" class="button small" onClick={copy}>
          <span aria-live="polite">{copied ? 'Copied' : 'Copy'}</span>
        </button>
      )}
    </div>
  )
}

render(<Snippet />, document.getElementById('snippet')!)
