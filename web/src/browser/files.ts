// The files beside the page. Each is a script that contains its bytes, compressed: scripts can be loaded from any server,
// whatever it compresses, and also where the page is opened from a disk.

declare global {
  interface Window {
    /** Called by the script of a file. */
    moodfieldFile: (name: string, content: string) => void;
  }
}

const waiting = new Map<string, (content: string) => void>();
window.moodfieldFile = (name, content) => waiting.get(name)?.(content);

export async function load(name: string): Promise<Uint8Array> {
  const text = atob(await loadScript(name));
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function loadScript(name: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    waiting.set(name, resolve);
    script.src = `${name}.js`;
    script.onerror = () =>
      reject(new Error(`${script.src} cannot be loaded: is the folder complete, and the connection up?`));
    script.onload = () => script.remove();
    document.head.append(script);
  });
}
