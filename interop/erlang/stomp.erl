%% A small STOMP 1.2 client over gen_tcp: there is no STOMP library for Erlang to be had.
%% A connection is a map of the socket and the bytes read but not yet used; every call that reads returns it anew.
-module(stomp).
-export([connect/2, connect/3, close/1, send/4, receipt/3, subscribe/3, settle/3, write/4,
         next/1, message/1, await/2, body/1, header/2]).

-define(PATIENCE_MS, 15000).

connect(Host, Port) -> connect(Host, Port, []).

%% Logs in; `Headers' are added to CONNECT. Returns the connection and the CONNECTED frame.
connect(Host, Port, Headers) ->
    {ok, Socket} = gen_tcp:connect(Host, Port, [binary, {active, false}, {nodelay, true}], ?PATIENCE_MS),
    Connection = #{socket => Socket, buffer => <<>>},
    %% CONNECT is the one frame that knows no escapes; none of these values needs one.
    write(Connection, "CONNECT",
          [{"accept-version", "1.2"}, {"host", "/"}, {"login", "guest"}, {"passcode", "guest"} | Headers], <<>>),
    await("CONNECTED", Connection).

%% Says goodbye and waits until the broker has read everything before it.
close(Connection) ->
    receipt(Connection, "DISCONNECT", []),
    gen_tcp:close(maps:get(socket, Connection)).

send(Connection, Destination, Headers, Body) ->
    write(Connection, "SEND",
          [{"destination", Destination}, {"content-length", integer_to_list(byte_size(Body))} | Headers], Body).

%% Sends a frame without a body and returns when its RECEIPT is there. Must not be used while messages may arrive.
receipt(Connection, Command, Headers) ->
    write(Connection, Command, [{"receipt", Command} | Headers], <<>>),
    {After, Frame} = await("RECEIPT", Connection),
    Command = header("receipt-id", Frame),
    After.

subscribe(Connection, Destination, Headers) ->
    write(Connection, "SUBSCRIBE", [{"destination", Destination} | with_id(Headers)], <<>>).

%% `Verb' is "ACK" or "NACK".
settle(Connection, Verb, Message) ->
    write(Connection, Verb, [{"id", header("ack", Message)}], <<>>).

with_id(Headers) ->
    case lists:keymember("id", 1, Headers) of
        true -> Headers;
        false -> [{"id", "s"} | Headers]
    end.

message(Connection) -> await("MESSAGE", Connection).

%% The next frame that is not a heart-beat must be a `Command'.
await(Command, Connection) ->
    case next(Connection) of
        {After, heart_beat} -> await(Command, After);
        {After, {Command, _, _} = Frame} -> {After, Frame};
        {_, Other} -> error({expected, Command, got, Other})
    end.

body({_, _, Body}) -> Body.

%% A header's first value, as the specification says; header names and values are Unicode strings.
header(Name, {_, Headers, _}) -> proplists:get_value(Name, Headers).

%% ---- bytes out ----

write(#{socket := Socket}, Command, Headers, Body) ->
    Lines = [[escape(Name), $:, escape(Value), $\n] || {Name, Value} <- Headers],
    ok = gen_tcp:send(Socket, [unicode:characters_to_binary([Command, $\n, Lines, $\n]), Body, 0]).

escape(String) -> lists:map(fun ($\\) -> "\\\\"; ($\n) -> "\\n"; ($\r) -> "\\r"; ($:) -> "\\c"; (C) -> C end, String).

%% ---- bytes in ----

%% The next frame, `{Command, Headers, Body}', or `heart_beat' for a line end between frames.
next(#{buffer := <<$\n, Rest/binary>>} = Connection) ->
    {Connection#{buffer := Rest}, heart_beat};
next(#{buffer := Buffer} = Connection) ->
    case binary:split(Buffer, <<"\n\n">>) of
        [Head, Rest] ->
            [Command | Lines] = string:split(unicode:characters_to_list(Head), "\n", all),
            Headers = [header_line(Line) || Line <- Lines],
            body(Connection#{buffer := Rest}, Command, Headers, proplists:get_value("content-length", Headers));
        [_] ->
            next(more(Connection))
    end.

%% Without content-length a body ends at the first NUL; with it, NULs are part of the body.
body(#{buffer := Buffer} = Connection, Command, Headers, undefined) ->
    case binary:split(Buffer, <<0>>) of
        [Body, Rest] -> {Connection#{buffer := Rest}, {Command, Headers, Body}};
        [_] -> body(more(Connection), Command, Headers, undefined)
    end;
body(#{buffer := Buffer, socket := Socket} = Connection, Command, Headers, ContentLength) ->
    Length = list_to_integer(ContentLength),
    case Buffer of
        <<Body:Length/binary, 0, Rest/binary>> ->
            {Connection#{buffer := Rest}, {Command, Headers, Body}};
        _ ->
            {ok, Missing} = gen_tcp:recv(Socket, Length + 1 - byte_size(Buffer), ?PATIENCE_MS),
            body(Connection#{buffer := <<Buffer/binary, Missing/binary>>}, Command, Headers, ContentLength)
    end.

more(#{socket := Socket, buffer := Buffer} = Connection) ->
    {ok, Bytes} = gen_tcp:recv(Socket, 0, ?PATIENCE_MS),
    Connection#{buffer := <<Buffer/binary, Bytes/binary>>}.

header_line(Line) ->
    [Name, Value] = string:split(Line, ":"),
    {unescape(Name), unescape(Value)}.

unescape("\\\\" ++ Rest) -> [$\\ | unescape(Rest)];
unescape("\\n" ++ Rest) -> [$\n | unescape(Rest)];
unescape("\\r" ++ Rest) -> [$\r | unescape(Rest)];
unescape("\\c" ++ Rest) -> [$: | unescape(Rest)];
unescape([C | Rest]) -> [C | unescape(Rest)];
unescape([]) -> [].
