// The interop checks through go-stomp: interop HOST PORT PREFIX
package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-stomp/stomp/v3"
	"github.com/go-stomp/stomp/v3/frame"
)

// How long a frame that must come may take.
const patience = 15 * time.Second

var address, prefix string

func main() {
	address, prefix = net.JoinHostPort(os.Args[1], os.Args[2]), os.Args[3]
	fmt.Println("LIBRARY go-stomp", libraryVersion())
	conn, err := dial()
	if err != nil {
		fmt.Println("FAIL connect:", err)
		os.Exit(1)
	}
	fmt.Println("PROTOCOL", conn.Version())
	conn.MustDisconnect()

	for _, check := range []struct {
		name string
		run  func() error
	}{
		{"send_receive", sendReceive}, {"receipt", receipt}, {"commit", commit}, {"abort", abort},
		{"ack_nack_individual", ackNackIndividual}, {"durable_subscription", durableSubscription},
		{"heart_beats", heartBeats}, {"binary_body", binaryBody}, {"body_8mib", body8MiB},
		{"utf8_headers", utf8Headers}, {"bad_destination", badDestination}, {"request_reply", requestReply},
	} {
		if err := check.run(); err != nil {
			fmt.Printf("FAIL %s: %s\n", check.name, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("PASS", check.name)
		}
	}
}

func libraryVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/go-stomp/stomp/v3" {
				return module.Version
			}
		}
	}
	return "unknown"
}

// dial logs in. go-stomp prints an ERROR to standard error unless given a logger; here the checks judge it.
func dial(options ...func(*stomp.Conn) error) (*stomp.Conn, error) {
	options = append([]func(*stomp.Conn) error{
		stomp.ConnOpt.Login("guest", "guest"),
		stomp.ConnOpt.Host("/"),
		stomp.ConnOpt.Logger(quiet{}),
		// Without this go-stomp asks for a heart-beat a minute.
		stomp.ConnOpt.HeartBeat(0, 0),
	}, options...)
	return stomp.Dial("tcp", address, options...)
}

// first is the first failure among the results of steps that were all taken.
func first(results ...error) error {
	for _, err := range results {
		if err != nil {
			return err
		}
	}
	return nil
}

func queue(check string) string { return "/queue/" + prefix + "." + check }

// session is a connection with one subscription.
type session struct {
	*stomp.Conn
	sub *stomp.Subscription
}

func subscribe(destination string, ack stomp.AckMode, options ...func(*frame.Frame) error) (*session, error) {
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	sub, err := conn.Subscribe(destination, ack, options...)
	return &session{conn, sub}, err
}

// next is the next message of a subscription.
func next(sub *stomp.Subscription) (*stomp.Message, error) {
	select {
	case message, open := <-sub.C:
		if !open {
			return nil, errors.New("the subscription ended")
		}
		return message, message.Err
	case <-time.After(patience):
		return nil, errors.New("no message came")
	}
}

func expect(sub *stomp.Subscription, body string) (*stomp.Message, error) {
	message, err := next(sub)
	if err == nil && string(message.Body) != body {
		err = fmt.Errorf("expected the message %q, got %q", body, message.Body)
	}
	return message, err
}

func expectHeader(message *stomp.Message, name, value string) error {
	if got := message.Header.Get(name); got != value {
		return fmt.Errorf("expected %s %q, got %q", name, value, got)
	}
	return nil
}

func sendReceive() error {
	s, err := subscribe(queue("send_receive"), stomp.AckAuto)
	if err != nil {
		return err
	}
	err = s.Send(queue("send_receive"), "text/plain", []byte("hello"), stomp.SendOpt.Header("kind", "greeting"))
	if err != nil {
		return err
	}
	message, err := expect(s.sub, "hello")
	if err != nil {
		return err
	}
	return first(expectHeader(message, "kind", "greeting"), s.Disconnect())
}

// Send returns after the RECEIPT when asked for one; a broker that sent none would let it run into its time limit.
func receipt() error {
	conn, err := dial(stomp.ConnOpt.RcvReceiptTimeout(patience))
	if err != nil {
		return err
	}
	err = conn.Send(queue("receipt"), "text/plain", []byte("important"), stomp.SendOpt.Receipt)
	return first(err, conn.Disconnect())
}

func commit() error {
	s, err := subscribe(queue("commit"), stomp.AckAuto)
	if err != nil {
		return err
	}
	tx := s.Begin()
	err = first(
		tx.Send(queue("commit"), "text/plain", []byte("first")),
		tx.Send(queue("commit"), "text/plain", []byte("second")),
		s.Send(queue("commit"), "text/plain", []byte("outside")),
	)
	if err != nil {
		return err
	}
	if _, err := expect(s.sub, "outside"); err != nil {
		return err
	}
	if err := tx.CommitWithReceipt(); err != nil {
		return err
	}
	for _, body := range []string{"first", "second"} {
		if _, err := expect(s.sub, body); err != nil {
			return err
		}
	}
	return s.Disconnect()
}

func abort() error {
	s, err := subscribe(queue("abort"), stomp.AckAuto)
	if err != nil {
		return err
	}
	tx := s.Begin()
	err = first(
		tx.Send(queue("abort"), "text/plain", []byte("never seen")),
		tx.AbortWithReceipt(),
		s.Send(queue("abort"), "text/plain", []byte("after")),
	)
	if err != nil {
		return err
	}
	_, err = expect(s.sub, "after")
	return first(err, s.Disconnect())
}

func ackNackIndividual() error {
	destination := queue("ack_nack_individual")
	s, err := subscribe(destination, stomp.AckClientIndividual)
	if err != nil {
		return err
	}
	err = first(
		s.Send(destination, "text/plain", []byte("nacked")),
		s.Send(destination, "text/plain", []byte("acked")),
	)
	if err != nil {
		return err
	}
	nacked, err := expect(s.sub, "nacked")
	if err != nil {
		return err
	}
	acked, err := expect(s.sub, "acked")
	if err != nil {
		return err
	}
	if err := first(s.Ack(acked), s.Nack(nacked)); err != nil {
		return err
	}
	again, err := expect(s.sub, "nacked")
	if err != nil {
		return err
	}
	if err := first(expectHeader(again, "redelivered", "true"), s.Ack(again), s.Disconnect()); err != nil {
		return err
	}
	// Nothing may be left: a new consumer sees only what is sent from now on.
	s, err = subscribe(destination, stomp.AckAuto)
	if err != nil {
		return err
	}
	if err := s.Send(destination, "text/plain", []byte("end")); err != nil {
		return err
	}
	_, err = expect(s.sub, "end")
	return first(err, s.Disconnect())
}

func durableSubscription() error {
	topic := "/topic/" + prefix + ".news"
	durable := stomp.SubscribeOpt.Header("durable", "true")
	attach := func() (*session, error) {
		return subscribe(topic, stomp.AckAuto, stomp.SubscribeOpt.Id(prefix+"-reader"), durable)
	}
	reader, err := attach()
	if err != nil {
		return err
	}
	if err := reader.Disconnect(); err != nil {
		return err
	}
	publisher, err := dial()
	if err != nil {
		return err
	}
	publish := func(body string) error {
		return publisher.Send(topic, "text/plain", []byte(body), stomp.SendOpt.Receipt)
	}
	if err := publish("while away"); err != nil {
		return err
	}
	if reader, err = attach(); err != nil {
		return err
	}
	if _, err := expect(reader.sub, "while away"); err != nil {
		return err
	}
	// Unsubscribe takes SUBSCRIBE's options too; durable:true deletes what was kept.
	if err := first(reader.sub.Unsubscribe(durable), reader.Disconnect(), publish("after the end")); err != nil {
		return err
	}
	if reader, err = attach(); err != nil {
		return err
	}
	if err := reader.Send(topic, "text/plain", []byte("new")); err != nil {
		return err
	}
	if _, err := expect(reader.sub, "new"); err != nil {
		return err
	}
	return first(reader.sub.Unsubscribe(durable), reader.Disconnect(), publisher.Disconnect())
}

func heartBeats() error {
	var agreed string
	conn, err := dial(
		stomp.ConnOpt.HeartBeat(time.Second, time.Second),
		// go-stomp gives both sides this much grace, five seconds by default: too lenient to notice a silent broker.
		stomp.ConnOpt.HeartBeatError(500*time.Millisecond),
		stomp.ConnOpt.ResponseHeaders(func(header *frame.Header) { agreed = header.Get(frame.HeartBeat) }),
	)
	if err != nil {
		return err
	}
	if agreed == "" || strings.HasPrefix(agreed, "0,") || strings.HasSuffix(agreed, ",0") {
		return fmt.Errorf("no heart-beats agreed: %q", agreed)
	}
	time.Sleep(3500 * time.Millisecond)
	sub, err := conn.Subscribe(queue("heart_beats"), stomp.AckAuto)
	if err != nil {
		return err
	}
	if err := conn.Send(queue("heart_beats"), "text/plain", []byte("still here")); err != nil {
		return err
	}
	_, err = expect(sub, "still here")
	return first(err, conn.Disconnect())
}

func everyByte() []byte {
	all := make([]byte, 1024)
	for i := range all {
		all[i] = byte(i)
	}
	return all
}

func echo(check string, body []byte) error {
	s, err := subscribe(queue(check), stomp.AckAuto)
	if err != nil {
		return err
	}
	if err := s.Send(queue(check), "application/octet-stream", body); err != nil {
		return err
	}
	message, err := next(s.sub)
	if err == nil && !bytes.Equal(message.Body, body) {
		err = errors.New("the body came back changed")
	}
	return first(err, s.Disconnect())
}

func binaryBody() error { return echo("binary_body", everyByte()) }

func body8MiB() error { return echo("body_8mib", bytes.Repeat(everyByte(), 8192)) }

func utf8Headers() error {
	note := "Grüße: 漢字\nback\\slash"
	s, err := subscribe(queue("utf8_headers"), stomp.AckAuto)
	if err != nil {
		return err
	}
	err = s.Send(queue("utf8_headers"), "text/plain", []byte("see header"), stomp.SendOpt.Header("note", note))
	if err != nil {
		return err
	}
	message, err := next(s.sub)
	if err != nil {
		return err
	}
	return first(expectHeader(message, "note", note), s.Disconnect())
}

// go-stomp closes the connection when an ERROR arrives, whichever frame it answers.
func badDestination() error {
	conn, err := dial()
	if err != nil {
		return err
	}
	var refused stomp.Error
	err = conn.Send("/nowhere/at-all", "text/plain", []byte("lost"), stomp.SendOpt.Receipt)
	if !errors.As(err, &refused) {
		return fmt.Errorf("expected an ERROR frame, got %v", err)
	}
	text := refused.Message + "\n" + string(refused.Frame.Body)
	if !strings.Contains(text, "/queue") || !strings.Contains(text, "/topic") {
		return fmt.Errorf("the error does not say which destinations there are: %q", text)
	}
	if refused.Frame.Header.Get(frame.ReceiptId) == "" {
		return errors.New("the error carries no receipt-id")
	}
	return nil
}

func requestReply() error {
	server, err := subscribe(queue("request_reply"), stomp.AckAuto)
	if err != nil {
		return err
	}
	// A subscription with a reply-to header is go-stomp's way to receive from a temporary queue: nothing is sent, but
	// messages that arrive under that name are handed over.
	answers := stomp.SubscribeOpt.Header(stomp.ReplyToHeader, "/temp-queue/answers")
	client, err := subscribe("/temp-queue/answers", stomp.AckAuto, answers)
	if err != nil {
		return err
	}
	err = client.Send(queue("request_reply"), "text/plain", []byte("question"),
		stomp.SendOpt.Header("reply-to", "/temp-queue/answers"), stomp.SendOpt.Header("correlation-id", "q1"))
	if err != nil {
		return err
	}
	question, err := expect(server.sub, "question")
	if err != nil {
		return err
	}
	err = server.Send(question.Header.Get("reply-to"), "text/plain", []byte("answer"),
		stomp.SendOpt.Header("correlation-id", question.Header.Get("correlation-id")))
	if err != nil {
		return err
	}
	answer, err := expect(client.sub, "answer")
	if err != nil {
		return err
	}
	return first(expectHeader(answer, "correlation-id", "q1"), server.Disconnect(), client.Disconnect())
}

// quiet is a go-stomp logger that says nothing.
type quiet struct{}

func (quiet) Debugf(string, ...any)   {}
func (quiet) Infof(string, ...any)    {}
func (quiet) Warningf(string, ...any) {}
func (quiet) Errorf(string, ...any)   {}
func (quiet) Debug(string)            {}
func (quiet) Info(string)             {}
func (quiet) Warning(string)          {}
func (quiet) Error(string)            {}
