// Points drawn by WebGL 2: static buffers, so that a frame of panning is two uniforms and two calls.

/** Where the map is: screen = position × scale + offset, in pixels of CSS. */
export interface View {
  scaleX: number;
  scaleY: number;
  offsetX: number;
  offsetY: number;
}

const VERTEX = `#version 300 es
in vec2 position;
in vec3 colour;
in float state;
uniform vec4 view;    // scale and offset, to clip space
uniform float size;   // pixels of the device
uniform float pass;   // 0: faint points, 1: others
out vec4 fill;
void main() {
  bool isShown = (state > 0.0) == (pass > 0.0);
  gl_Position = isShown ? vec4(position * view.xy + view.zw, 0.0, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = size;
  fill = vec4(colour, pass > 0.0 ? 0.9 : 0.16);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec4 fill;
uniform float size;
out vec4 result;
void main() {
  float distance = length(gl_PointCoord - 0.5) * 2.0;
  float alpha = fill.a * clamp((1.0 - distance) * size * 0.5, 0.0, 1.0);
  result = vec4(fill.rgb * alpha, alpha);
}`;

export class Scatter {
  readonly #gl: WebGL2RenderingContext;
  readonly #program: WebGLProgram;
  readonly #buffers = new Map<string, WebGLBuffer>();
  readonly #uniforms: Record<"view" | "size" | "pass", WebGLUniformLocation | null>;
  #count = 0;

  /** Raises an error if the browser has no WebGL 2. */
  constructor(readonly canvas: HTMLCanvasElement) {
    const gl = canvas.getContext("webgl2", { antialias: false, alpha: true });
    if (!gl) throw new Error("this browser has no WebGL 2");
    this.#gl = gl;
    this.#program = link(gl);
    gl.useProgram(this.#program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.#uniforms = {
      view: gl.getUniformLocation(this.#program, "view"),
      size: gl.getUniformLocation(this.#program, "size"),
      pass: gl.getUniformLocation(this.#program, "pass"),
    };
  }

  /** Positions as pairs of x and y, 0 … 1. */
  setPositions(positions: Float32Array): void {
    this.#count = positions.length / 2;
    this.#upload("position", positions, 2, this.#gl.FLOAT);
  }

  /** Colours as three bytes a point. */
  setColours(colours: Uint8Array): void {
    this.#upload("colour", colours, 3, this.#gl.UNSIGNED_BYTE);
  }

  /** Whether a point is shown (255) or faint (0). */
  setStates(states: Uint8Array): void {
    this.#upload("state", states, 1, this.#gl.UNSIGNED_BYTE);
  }

  /** Fits the canvas to its size on the screen; returns whether it has changed. */
  resize(width: number, height: number): boolean {
    const ratio = devicePixelRatio;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width === wide && this.canvas.height === high) return false;
    Object.assign(this.canvas, { width: wide, height: high });
    this.#gl.viewport(0, 0, wide, high);
    return true;
  }

  /** Draws all points; sizes are the diameters of faint and of other ones in pixels of CSS. */
  draw({ scaleX, scaleY, offsetX, offsetY }: View, sizes: readonly [number, number]): void {
    const gl = this.#gl;
    const [width, height] = [this.canvas.width / devicePixelRatio, this.canvas.height / devicePixelRatio];
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform4f(
      this.#uniforms.view,
      (2 * scaleX) / width,
      (-2 * scaleY) / height,
      (2 * offsetX) / width - 1,
      1 - (2 * offsetY) / height,
    );
    for (const pass of [0, 1] as const) {
      gl.uniform1f(this.#uniforms.size, sizes[pass] * devicePixelRatio);
      gl.uniform1f(this.#uniforms.pass, pass);
      gl.drawArrays(gl.POINTS, 0, this.#count);
    }
  }

  dispose(): void {
    for (const buffer of this.#buffers.values()) this.#gl.deleteBuffer(buffer);
    this.#gl.deleteProgram(this.#program);
  }

  #upload(name: string, data: Float32Array | Uint8Array, size: number, type: number): void {
    const gl = this.#gl;
    const buffer = this.#buffers.get(name) ?? gl.createBuffer();
    this.#buffers.set(name, buffer);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    const location = gl.getAttribLocation(this.#program, name);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, size, type, type !== gl.FLOAT, 0, 0);
  }
}

function link(gl: WebGL2RenderingContext): WebGLProgram {
  const program = gl.createProgram();
  for (const [type, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(type)!;
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    throw new Error(`the map cannot be drawn: ${gl.getProgramInfoLog(program)}`);
  }
  return program;
}
